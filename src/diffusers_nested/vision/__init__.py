"""Vision towers: finding the one that an adapter needs, loading it, and computing image features."""

from .encoder import ImageEncoder, check_encoded
from .towers import (
    Tower,
    check_width,
    find_image_encoder,
    load_image_encoder,
    load_vision_tower,
    locate_image_encoder,
)

__all__ = [
    "ImageEncoder",
    "Tower",
    "check_encoded",
    "check_width",
    "find_image_encoder",
    "load_image_encoder",
    "load_vision_tower",
    "locate_image_encoder",
]
