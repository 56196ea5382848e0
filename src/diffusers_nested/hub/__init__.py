"""Adapters and image encoders from the Hub or from folders."""

from .resolve import load_adapter, pin_adapter
from .source import Source
from .towers import Tower, find_image_encoder, load_image_encoder, load_vision_tower

__all__ = [
    "Source",
    "Tower",
    "find_image_encoder",
    "load_adapter",
    "load_image_encoder",
    "load_vision_tower",
    "pin_adapter",
]
