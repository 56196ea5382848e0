"""Vision towers: finding the one that an adapter needs, loading it, and computing image features."""

from .encoder import ImageEncoder, check_encoded
from .loading import load_image_encoder, load_vision_tower
from .reads import check_count, check_encoder, each_tower
from .several import ImageEncoders, joined, read_images, together
from .tower import OWN_FOLDER, Tower, numbered
from .towers import check_fits, each_folder, find_image_encoder, find_image_encoders, locate_image_encoder

__all__ = [
    "OWN_FOLDER",
    "ImageEncoder",
    "ImageEncoders",
    "Tower",
    "check_count",
    "check_encoded",
    "check_encoder",
    "check_fits",
    "each_folder",
    "each_tower",
    "find_image_encoder",
    "find_image_encoders",
    "joined",
    "load_image_encoder",
    "load_vision_tower",
    "locate_image_encoder",
    "numbered",
    "read_images",
    "together",
]
