"""From a folder of photos to a training set: subjects found and cropped, captions with the subject's word."""

from .align import crop_aligned
from .faces import FaceFinder, prepare_face
from .folder import PrepareConfig, Prepared, prepare_faces

__all__ = ["FaceFinder", "PrepareConfig", "Prepared", "crop_aligned", "prepare_face", "prepare_faces"]
