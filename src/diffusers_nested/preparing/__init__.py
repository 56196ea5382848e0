"""From a folder of photos to a training set: subjects found and cropped, captions with the subject's word."""

from .folder import Prepared, prepare
from .settings import PrepareSettings

__all__ = ["PrepareSettings", "Prepared", "prepare"]
