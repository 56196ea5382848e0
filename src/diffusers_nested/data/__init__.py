"""What an adapter learns from: triplets of input image, caption and target image."""

from .captions import Positions, bare_captions, caption_positions, subject_positions
from .folder import TripletFolder
from .images import frame_of, load_image, to_pixels
from .lines import read_lines
from .order import EndlessOrder, seeded_generator
from .triplets import Photos, Triplet, Triplets, Words, each

__all__ = [
    "EndlessOrder",
    "Photos",
    "Positions",
    "Triplet",
    "TripletFolder",
    "Triplets",
    "Words",
    "bare_captions",
    "caption_positions",
    "each",
    "frame_of",
    "load_image",
    "read_lines",
    "seeded_generator",
    "subject_positions",
    "to_pixels",
]
