"""Memory that training an adapter for SDXL needs on each GPU, counted from shapes.

    python benchmarks/training_memory.py --output docs/results/training-memory.json

Weights and tensors in bfloat16, the adapter in float32, with the average of its weights; one process.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from fewsteps import vision_tower
from vram import sdxl_text_encoders, sdxl_vae

from contestants import sdxl_unet
from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import layer_widths
from diffusers_nested.training import TrainingConfig
from diffusers_nested.training.memory import Sizes, count_step

FEATURES = (257, 1280)  # of CLIP ViT-H/14


def main() -> None:
    """Count and write the results, after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with torch.device("meta"):
        unet = sdxl_unet()
        adapter = NestedAdapter(
            layer_widths(unet),
            token_dim=2048,
            image_feature_dim=FEATURES[1],
            num_queries=args.tokens,
            projection_rank=args.rank,
        )
        frozen = [unet, sdxl_vae(), vision_tower(), *sdxl_text_encoders()]
    found = {
        "tokens": args.tokens,
        "rank": args.rank,
        "frozen": 2 * sum(x.numel() for model in frozen for x in model.parameters()),
        "trained": 4 * sum(x.numel() for x in adapter.parameters()),
        "rows": [],
    }
    for size, batch, checkpointing in product(args.sizes, args.batches, (False, True)):
        sizes = Sizes((4, size // 8, size // 8), (77, 2048), 1280, FEATURES)
        config = TrainingConfig(
            "unused",
            resolution=size,
            train_batch_size=batch,
            gradient_checkpointing=checkpointing,
            mixed_precision="bf16",
        )
        step = count_step(UNet2DConditionModel, unet.config, DDIMScheduler(), adapter.config, sizes, config)
        row = {"size": size, "batch": batch, "checkpointing": checkpointing, "step": step}
        found["rows"].append(row)
        args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
