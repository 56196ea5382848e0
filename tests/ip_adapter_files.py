"""IP-Adapters with random weights, in the format of the published files, and a repository of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import tiny_pipeline as tiny
from diffusers_nested.backbones import layer_widths

Weights = dict[str, Tensor]
SMALL, LARGE = (24, 16), (32, 20)  # width and projection of the two towers
# Where a file is -> its kind and tower, as in h94/IP-Adapter
PUBLISHED = {
    "models/base.safetensors": ("base", SMALL),
    "sdxl_models/base.safetensors": ("base", LARGE),
    "sdxl_models/base_small.safetensors": ("base", SMALL),
    "sdxl_models/plus_small.safetensors": ("plus", SMALL),
}
# A repository of them on the Hub, and how a pipeline loads its IP-Adapter Plus, with the tower under models/
REPO = "alice/ip"
PLUS = {"subfolder": "sdxl_models", "weight_name": "plus_small.safetensors"}
FROM_TOP = {"image_encoder_folder": "models/image_encoder"}


def repository(folder: Path, unet: torch.nn.Module) -> Path:
    """IP-Adapters for a UNet, and two towers: the small one under models/, the large one under sdxl_models/."""
    for name, (kind, (width, projected)) in PUBLISHED.items():
        random = torch.Generator().manual_seed(0)
        widths, dim = list(layer_widths(unet).values()), unet.config.cross_attention_dim
        encoder = base_encoder(projected, dim, random) if kind == "base" else plus_encoder(width, dim, random)
        write(folder / name, encoder, layer_weights(widths, dim, random))
    tiny.image_encoder().save_pretrained(folder / "models" / "image_encoder")
    config = tiny.image_encoder().config.to_dict() | {"hidden_size": LARGE[0], "projection_dim": LARGE[1]}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**config)).save_pretrained(folder / "sdxl_models" / "image_encoder")
    return folder


def plus_file(folder: Path) -> Path:
    """Where a repository has its IP-Adapter Plus."""
    return folder / "sdxl_models" / "plus_small.safetensors"


def base_encoder(features: int, token_dim: int, random: torch.Generator | None, tokens: int = 4) -> Weights:
    """The encoder of a base IP-Adapter: linear, then a norm."""
    return {
        "image_proj.proj.weight": torch.randn(tokens * token_dim, features, generator=random) * features**-0.5,
        "image_proj.proj.bias": torch.randn(tokens * token_dim, generator=random),
        **_norm("image_proj.norm", token_dim, random),
    }


def plus_encoder(
    features: int,
    token_dim: int,
    random: torch.Generator | None,
    tokens: int = 16,
    hidden: int = 64,
    heads: int = 1,
    depth: int = 4,
) -> Weights:
    """The encoder of an IP-Adapter Plus: a resampler with heads of width 64."""
    inner = 64 * heads
    weights = {
        "image_proj.latents": torch.randn(1, tokens, hidden, generator=random),
        **_linear("image_proj.proj_in", hidden, features, random),
        **_linear("image_proj.proj_out", token_dim, hidden, random),
        **_norm("image_proj.norm_out", token_dim, random),
    }
    for i in range(depth):
        block = f"image_proj.layers.{i}"
        weights |= _norm(f"{block}.0.norm1", hidden, random) | _norm(f"{block}.0.norm2", hidden, random)
        weights |= _linear(f"{block}.0.to_q", inner, hidden, random, bias=False)
        weights |= _linear(f"{block}.0.to_kv", 2 * inner, hidden, random, bias=False)
        weights |= _linear(f"{block}.0.to_out", hidden, inner, random, bias=False)
        weights |= _norm(f"{block}.1.0", hidden, random)
        weights |= _linear(f"{block}.1.1", 4 * hidden, hidden, random, bias=False)
        weights |= _linear(f"{block}.1.3", hidden, 4 * hidden, random, bias=False)
    return weights


def layer_weights(widths: Sequence[int], token_dim: int, random: torch.Generator | None) -> Weights:
    """Keys and values of every cross-attention layer, numbered by attention layers as 1, 3, 5, …"""
    weights: Weights = {}
    for i, width in enumerate(widths):
        for name in ("k", "v"):
            weights |= _linear(f"ip_adapter.{2 * i + 1}.to_{name}_ip", width, token_dim, random, bias=False)
    return weights


def write(path: Path, encoder: Weights, layers: Weights) -> Path:
    """Write the file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**encoder, **layers}, path)
    return path


def _linear(name: str, out: int, width: int, random: torch.Generator | None, bias: bool = True) -> Weights:
    weights = {f"{name}.weight": torch.randn(out, width, generator=random) * width**-0.5}
    return weights | ({f"{name}.bias": torch.randn(out, generator=random)} if bias else {})


def _norm(name: str, width: int, random: torch.Generator | None) -> Weights:
    # far from the identity, so that a norm in the wrong place shows
    return {
        f"{name}.weight": 1 + 0.5 * torch.randn(width, generator=random),
        f"{name}.bias": 0.5 * torch.randn(width, generator=random),
    }
