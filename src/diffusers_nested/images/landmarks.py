"""Faces with their landmarks, by dlib, and the aligned crop of the largest. Needs the extra ``faces``."""

from functools import cache
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image

from ..errors import FaceNotFoundError
from .addresses import open_address
from .align import Landmarks, crop_square, face_square, side_of
from .faces import load_dlib
from .photos import to_pil

_LONGEST = 1024  # pixels of the longer side in which faces are searched: dlib takes seconds for a whole photo
_UPSAMPLED = 1  # times that this is doubled before the search: faces from about 40 pixels are found
_SURE = 0.3  # least score of dlib's detector: at its own 0, folds of clothes are taken for faces
_LEFT_EYE, _RIGHT_EYE, _MOUTH = slice(36, 42), slice(42, 48), [48, 54]  # of the 68 points


class FaceFinder:
    """dlib's HOG detector of frontal faces, and its 68 landmarks.

    Raises:
        DependencyError: The extra ``faces`` is not installed.
    """

    def __init__(self) -> None:
        self._dlib, weights = load_dlib()
        self._detector = self._dlib.get_frontal_face_detector()
        self._predictor = self._dlib.shape_predictor(weights.pose_predictor_model_location())

    def find(self, picture: Image.Image) -> list[np.ndarray]:
        """The squares around all faces in an RGB picture as (4, 2), the largest first; see ``face_square``."""
        searched = picture.copy()
        searched.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
        boxes, _, _ = self._detector.run(np.asarray(searched), _UPSAMPLED, _SURE)
        pixels, scale = np.asarray(picture), picture.width / searched.width
        squares = [face_square(self._landmarks(pixels, box, scale)) for box in boxes]
        return sorted(squares, key=side_of, reverse=True)

    def _landmarks(self, pixels: np.ndarray, box: Any, scale: float) -> Landmarks:
        edges = (box.left(), box.top(), box.right(), box.bottom())
        found = self._predictor(pixels, self._dlib.rectangle(*(round(edge * scale) for edge in edges)))
        points = np.array([(point.x, point.y) for point in found.parts()], dtype=float)  # (68, 2)
        return Landmarks(points[_LEFT_EYE].mean(0), points[_RIGHT_EYE].mean(0), points[_MOUTH].mean(0))


def prepare_face(image: Any) -> Image.Image:
    """Crop the largest face of a photo as ``diffusers-nested prepare faces`` crops the photos that it trains with.

    Args:
        image: A path, a URL, a PIL image, an array (H, W, C) or a tensor (C, H, W).

    Returns:
        The face in RGB, 512 x 512 pixels, upright and in FFHQ's place; the photo is mirrored beyond its edges.

    Raises:
        FaceNotFoundError: There is no face in it.
        SubjectError: The image cannot be used.
        DependencyError: The extra ``faces`` is not installed.
    """
    finder = face_finder()
    picture = to_pil(open_address(image) if isinstance(image, str | PathLike) else image)
    squares = finder.find(picture)
    if not squares:
        raise FaceNotFoundError(
            f"No face was found in the image of {picture.width} x {picture.height} pixels, expected one that looks "
            "towards the camera. Give another photo, or cut the face out by hand."
        )
    return crop_square(picture, squares[0])


@cache
def face_finder() -> FaceFinder:
    """The process's one finder: it reads 100 MB of weights.

    Raises:
        DependencyError: The extra ``faces`` is not installed.
    """
    return FaceFinder()
