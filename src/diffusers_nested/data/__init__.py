"""What an adapter learns from: triplets of input image, caption and target image."""

from .buckets import BucketOrder, Size, bucket_sizes, largest_bucket, nearest_size
from .captions import Positions, bare_captions, caption_positions, subject_positions
from .folder import TripletFolder
from .images import frame_of, load_image, size_of, to_pixels
from .lines import read_lines
from .opening import open_training_set
from .order import EndlessOrder, ShardOrder, seeded_generator
from .packed import PackedPicture
from .shards import ShardFolder
from .triplets import Photos, Triplet, Triplets, Words, each

__all__ = [
    "BucketOrder",
    "EndlessOrder",
    "PackedPicture",
    "Photos",
    "Positions",
    "ShardFolder",
    "ShardOrder",
    "Size",
    "Triplet",
    "TripletFolder",
    "Triplets",
    "Words",
    "bare_captions",
    "bucket_sizes",
    "caption_positions",
    "each",
    "frame_of",
    "largest_bucket",
    "load_image",
    "nearest_size",
    "open_training_set",
    "read_lines",
    "seeded_generator",
    "size_of",
    "subject_positions",
    "to_pixels",
]
