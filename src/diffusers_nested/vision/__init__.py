"""Vision towers: which one an adapter reads, its files, and the features that it gives."""

from .encoder import ImageEncoder, check_encoded
from .towers import Tower, find_image_encoder, load_image_encoder, load_vision_tower, locate_image_encoder

__all__ = [
    "ImageEncoder",
    "Tower",
    "check_encoded",
    "find_image_encoder",
    "load_image_encoder",
    "load_vision_tower",
    "locate_image_encoder",
]
