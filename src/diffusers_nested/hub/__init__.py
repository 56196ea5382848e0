"""Adapters and image encoders from the Hub or from folders."""

from .inspection import Inspection, WeightFile, inspect_adapter
from .publication import Publication, prepare_publication
from .publish import publish, show
from .push import push_to_hub
from .resolve import load_adapter, origin_of, pin_adapter
from .source import Source
from .towers import Tower, find_image_encoder, load_image_encoder, load_vision_tower, locate_image_encoder

__all__ = [
    "Inspection",
    "Publication",
    "Source",
    "Tower",
    "WeightFile",
    "find_image_encoder",
    "inspect_adapter",
    "load_adapter",
    "load_image_encoder",
    "load_vision_tower",
    "locate_image_encoder",
    "origin_of",
    "pin_adapter",
    "prepare_publication",
    "publish",
    "push_to_hub",
    "show",
]
