"""From a folder of photos to a training set: subjects found and cropped, captions with the subject's word."""

from .folder import Prepared, prepare
from .settings import PrepareSettings
from .shards import Packed, write_shards

__all__ = ["Packed", "PrepareSettings", "Prepared", "prepare", "write_shards"]
