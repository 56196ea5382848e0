"""What a subject's set-up costs beside the steps of a call: few-step models take so few that it counts.

    python benchmarks/fewsteps.py --sizes 512 1024 --tokens 16 256 1024 --output docs/results/fewsteps.json

Operations, counted on fake tensors as in flops.py. Set-up is the vision tower (ViT-H/14 at 224²), the Q-Former in its
default size, and the projections of all layers. Text encoders and VAE are left out: every picture needs them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from flops import CPU, DTYPE, count, count_nested
from speed import step_inputs
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from contestants import sdxl_unet
from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import layer_widths

WIDTH, SIDE = 1280, 224  # of the tower's features, and of its pictures


def vision_tower() -> CLIPVisionModelWithProjection:
    """CLIP ViT-H/14, the tower of IP-Adapter's "plus" files."""
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=5120,
        projection_dim=1024,
        num_hidden_layers=32,
        num_attention_heads=16,
        image_size=SIDE,
        patch_size=14,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


def sdxl_adapter(unet: Any, tokens: int) -> NestedAdapter:
    """An adapter for SDXL with a Q-Former of the default size."""
    adapter = NestedAdapter(layer_widths(unet), token_dim=2048, image_feature_dim=WIDTH, num_queries=tokens)
    return adapter.eval().requires_grad_(False)


def main() -> None:
    """Count and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with FakeTensorMode(allow_non_fake_inputs=True):  # for the dials, which are real
        unet = sdxl_unet().eval()
        set_up = {tokens: _set_up(unet, tokens) for tokens in args.tokens}
        rows = [
            {"size": size, "tokens": tokens, **set_up[tokens], **_steps(unet, size, tokens)}
            for size in args.sizes
            for tokens in args.tokens
        ]
    args.output.write_text(json.dumps(rows, indent=1) + "\n")


def _set_up(unet: Any, tokens: int) -> dict[str, float]:
    """TFLOP of each part of the set-up of one subject with one photo."""
    tower, adapter = vision_tower(), sdxl_adapter(unet, tokens)
    pixels = torch.empty(1, 3, SIDE, SIDE, device=CPU, dtype=DTYPE)
    features = torch.empty(1, (SIDE // 14) ** 2 + 1, WIDTH, device=CPU, dtype=DTYPE)
    read = torch.empty(1, tokens, 2048, device=CPU, dtype=DTYPE)
    return {
        "tower": count(lambda: tower(pixels)),
        "qformer": count(lambda: adapter.encode(features)),
        "projections": count(lambda: adapter.project(read)),
    }


def _steps(unet: Any, size: int, tokens: int) -> dict[str, float]:
    """TFLOP of a step with the subject: with guidance, of two rows, and without it, of one."""
    guided = step_inputs(size, CPU, DTYPE)
    single = {
        name: {key: x[1:] for key, x in value.items()}
        if isinstance(value, dict)
        else value[1:]
        if value.ndim
        else value
        for name, value in guided.items()
    }
    return {"step": count_nested(unet, single, tokens), "guided_step": count_nested(unet, guided, tokens)}


if __name__ == "__main__":
    main()
