"""Adapters and image encoders from the Hub or from folders."""

from .resolve import Source, load_adapter, load_image_encoder, load_vision_tower

__all__ = ["Source", "load_adapter", "load_image_encoder", "load_vision_tower"]
