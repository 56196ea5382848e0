"""Faces with their landmarks, by dlib. Needs the extra ``faces``."""

from os import PathLike
from typing import Any

import numpy as np
from PIL import Image

from ..environment.requirements import missing_extra
from ..errors import FaceNotFoundError
from ..images import open_address, to_pil
from .align import Landmarks, crop_aligned

_UPSAMPLED = 1  # times that a picture is doubled before the search
_SURE = 0.3  # least score of dlib's detector: at its own 0, folds of clothes are taken for faces
_LEFT_EYE, _RIGHT_EYE, _MOUTH = slice(36, 42), slice(42, 48), (48, 54)  # of the 68 points


class FaceFinder:
    """dlib's HOG detector of frontal faces, and its 68 landmarks.

    Raises:
        DependencyError: The extra ``faces`` is not installed.
    """

    def __init__(self) -> None:
        try:
            import dlib  # pyright: ignore[reportMissingImports]
            import face_recognition_models as weights  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise missing_extra("Finding faces needs", "faces") from error
        library: Any = dlib
        self._detector = library.get_frontal_face_detector()
        self._predictor = library.shape_predictor(weights.pose_predictor_model_location())

    def largest(self, picture: Image.Image) -> Landmarks | None:
        """Landmarks of the face with the largest box in an RGB picture; None if no face is found."""
        pixels = np.asarray(picture)
        boxes, _, _ = self._detector.run(pixels, _UPSAMPLED, _SURE)
        box = max(boxes, key=lambda one: one.area(), default=None)
        if box is None:
            return None
        points = np.array([(point.x, point.y) for point in self._predictor(pixels, box).parts()], float)  # (68, 2)
        return Landmarks(points[_LEFT_EYE].mean(0), points[_RIGHT_EYE].mean(0), points[list(_MOUTH)].mean(0))


def prepare_face(image: Any) -> Image.Image:
    """Crop the largest face of a photo as ``diffusers-nested prepare faces`` crops the input photos of training.

    Args:
        image: A path, a URL, a PIL image, an array (H, W, C) or a tensor (C, H, W).

    Returns:
        The face in RGB, 512 x 512 pixels, upright and in FFHQ's place; the photo is mirrored beyond its edges.

    Raises:
        FaceNotFoundError: There is no face in it.
        SubjectError: The image cannot be used.
        DependencyError: The extra ``faces`` is not installed.
    """
    picture = to_pil(open_address(image) if isinstance(image, str | PathLike) else image)
    face = FaceFinder().largest(picture)
    if face is None:
        raise FaceNotFoundError(
            f"No face is found in the image of {picture.width} x {picture.height} pixels, expected one that looks "
            "towards the camera and has at least about 40 pixels. Give another photo, or crop and turn it by hand."
        )
    return crop_aligned(picture, face)
