"""The known base families."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import NestedAdapterError
from .base import Backbone
from .layers import cross_attention_layers
from .sd15 import SD15
from .sdxl import SDXL

BACKBONES: Mapping[str, Backbone] = {backbone.name: backbone for backbone in (SDXL, SD15)}
BASE_FAMILY = SDXL.name  # the default


def family_of(unet: Any) -> str:
    """The name of a UNet's family, or the name of its class if the family is unknown."""
    config = getattr(unet, "config", None)
    if isinstance(unet, nn.Module) and isinstance(config, Mapping) and cross_attention_layers(unet):
        for backbone in BACKBONES.values():
            if backbone.is_config_of(config):
                return backbone.name
    return type(unet).__name__


def backbone_of(unet: Any) -> Backbone:
    """The family of a UNet.

    Raises:
        NestedAdapterError: The family is unknown.
    """
    family = family_of(unet)
    if family not in BACKBONES:
        listed = " or ".join(f"{one.title} ({one.name!r})" for one in BACKBONES.values())
        raise NestedAdapterError(
            f"The UNet is of the {family!r} family, expected {listed}. Pass the `unet` of such a pipeline."
        )
    return BACKBONES[family]


def titles() -> str:
    """All families, for messages: "SDXL or Stable Diffusion 1.5 and 2.1"."""
    return " or ".join(backbone.title for backbone in BACKBONES.values())
