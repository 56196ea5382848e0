"""Adapters and image encoders from the Hub or from folders."""

from .inspection import Inspection, WeightFile, inspect_adapter
from .resolve import Source, load_adapter, load_image_encoder, load_vision_tower

__all__ = [
    "Inspection",
    "Source",
    "WeightFile",
    "inspect_adapter",
    "load_adapter",
    "load_image_encoder",
    "load_vision_tower",
]
