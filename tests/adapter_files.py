"""Adapters on disk: the names of their files and tensors, and how to change and compare them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYER = "mid_block.attentions.0.transformer_blocks.1.attn2"


def same_bits(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())


def snapshot(unet: UNet2DConditionModel) -> dict[str, Any]:
    """Everything in a UNet that an adapter could change."""
    return {
        "weights": {name: (id(p), p._version, p.requires_grad) for name, p in unet.state_dict(keep_vars=True).items()},
        "processors": {name: id(processor) for name, processor in unet.attn_processors.items()},
        "modules": [(name, id(module), module.training) for name, module in unet.named_modules()],
        "hooks": [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in unet.modules()],
        "config": dict(unet.config),
    }


def shards_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-of-*.safetensors"))


def edit_config(folder: Path, edit: Callable[[dict], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
