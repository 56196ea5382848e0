"""Operations of a training step for SDXL, counted on fake tensors, and the GPU hours that they stand for.

    python benchmarks/training_flops.py --output docs/results/training-flops.json

Two operations for each multiplication and addition of matrix products, convolutions and attention; nothing else is
counted. The step is that of diffusers_nested.training, forward and backward with gradient checkpointing, of a picture,
with the nested mechanism.
GPU hours follow from --pictures, --epochs, and a share --utilisation of --peak, which is an A100's in bf16. No time is
measured here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from fewsteps import SIDE, vision_tower
from flops import count
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training_memory import FEATURES
from vram import sdxl_text_encoders, sdxl_vae

from contestants import sdxl_unet
from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import layer_widths
from diffusers_nested.training import TrainingConfig
from diffusers_nested.training.memory import Sizes, step_without_content

WORDS = 77


def main() -> None:
    """Count, and write the results after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--pictures", type=int, default=70_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--peak", type=float, default=312.0, help="TFLOP/s of a GPU")
    parser.add_argument("--utilisation", type=float, default=0.4)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in ("tokens", "pictures", "epochs", "peak", "utilisation")}
    found: dict[str, Any] = {**settings, "rows": []}
    for size in args.sizes:
        found["rows"].append({"size": size, "step": count_training(size, args.tokens), "frozen": count_frozen(size)})
        args.output.write_text(json.dumps(found, indent=1) + "\n")


def count_training(size: int, tokens: int) -> float:
    """TFLOP of UNet and adapter for a picture: forward, once more in parts as gradient checkpointing does, backward."""
    with torch.device("meta"):
        unet = sdxl_unet()
        adapter = NestedAdapter(layer_widths(unet), token_dim=2048, image_feature_dim=FEATURES[1], num_queries=tokens)
    config = TrainingConfig("unused", resolution=size, train_batch_size=1, gradient_checkpointing=True)
    sizes = Sizes((4, size // 8, size // 8), (WORDS, 2048), 1280, FEATURES)
    given = (UNet2DConditionModel, unet.config, DDIMScheduler(), adapter.config, sizes, config)
    # as plain products, of which all are counted; not all fused kernels are
    with step_without_content(*given) as take, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        take()
    return round(counter.get_total_flops() / 1e12, 3)


def count_frozen(size: int) -> dict[str, float]:
    """TFLOP of the frozen models in front of the UNet for a picture."""
    with FakeTensorMode():
        tower, vae, encoders = vision_tower(), sdxl_vae().eval(), sdxl_text_encoders()
        words = torch.zeros(1, WORDS, dtype=torch.long)
        return {
            "vision tower": count(lambda: tower(torch.empty(1, 3, SIDE, SIDE))),
            "text encoders": sum(count(lambda one=one: one(words)) for one in encoders),
            "VAE": count(lambda: vae.encoder(torch.empty(1, 3, size, size))),
        }


if __name__ == "__main__":
    main()
