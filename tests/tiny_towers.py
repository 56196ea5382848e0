"""Real vision towers of every family at tiny size, with random weights, and their preprocessing."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

SIDE, PATCH = 16, 8
PATCHES = (SIDE // PATCH) ** 2
CROP = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
EXACT = {"size": {"height": SIDE, "width": SIDE}}
# name -> configuration, model, preprocessing, its settings, features of the last layer, and what else to set
FAMILIES: dict[str, tuple[Any, Any, Any, dict, int, dict]] = {
    "clip": (CLIPVisionConfig, CLIPVisionModelWithProjection, CLIPImageProcessorPil, CROP, 1 + PATCHES, {}),
    "clip without projection": (CLIPVisionConfig, CLIPVisionModel, CLIPImageProcessorPil, CROP, 1 + PATCHES, {}),
    "dinov2": (Dinov2Config, Dinov2Model, BitImageProcessorPil, CROP, 1 + PATCHES, {}),
    "dinov2, swiglu": (
        Dinov2Config,
        Dinov2Model,
        BitImageProcessorPil,
        CROP,
        1 + PATCHES,
        {"use_swiglu_ffn": True, "use_mask_token": False},
    ),
    "dinov2 with registers": (
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        BitImageProcessorPil,
        CROP,
        1 + PATCHES,
        {"num_register_tokens": 3},
    ),
    "siglip": (SiglipVisionConfig, SiglipVisionModel, SiglipImageProcessorPil, EXACT, PATCHES, {}),
    "vit": (ViTConfig, ViTModel, ViTImageProcessorPil, EXACT, 1 + PATCHES, {}),
}


def model(family: str, width: int = 12, seed: int = 0, **changes: Any) -> Any:
    """A tower of this family, with features of this width."""
    config, kind, *_, own = FAMILIES[family]
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": SIDE, "patch_size": PATCH}
    if "dinov2" not in family:
        sizes["intermediate_size"] = 16
    if "clip" in family:
        sizes["projection_dim"] = 10
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = kind(config(**{**sizes, **own, **changes})).eval()
        for parameter in made.parameters():  # some begin as zeros or ones
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def processor(family: str) -> Any:
    _, _, kind, sizes, *_ = FAMILIES[family]
    return kind(**sizes)


def save(folder: Path, family: str, number: int = 1, **settings: Any) -> Path:
    """A tower and its preprocessing in the folder of an adapter; returns the tower's own folder."""
    end = "" if number == 1 else f"_{number}"
    model(family, **settings).save_pretrained(folder / f"image_encoder{end}")
    processor(family).save_pretrained(folder / f"feature_extractor{end}")
    return folder / f"image_encoder{end}"
