"""Base families: how their pipelines and UNets differ, and where in a UNet an adapter acts."""

from .base import Backbone, BaseModel
from .layers import cross_attention_layers, layer_heads, layer_levels, layer_widths
from .registry import BACKBONES, BASE_FAMILY, backbone_of, family_of, titles
from .weights import key_value_weights

__all__ = [
    "BACKBONES",
    "BASE_FAMILY",
    "Backbone",
    "BaseModel",
    "backbone_of",
    "cross_attention_layers",
    "family_of",
    "key_value_weights",
    "layer_heads",
    "layer_levels",
    "layer_widths",
    "titles",
]
