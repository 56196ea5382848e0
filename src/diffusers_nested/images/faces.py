"""Faces in pictures by dlib: where they are, and whose. Needs the extra ``faces``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..environment.requirements import missing_extra

Box = tuple[float, float, float, float]  # left, top, right, bottom, as parts of width and height

_UPSAMPLED = 1  # times that a picture is doubled before the search: faces from about 40 pixels are found


class DlibFaces:
    """dlib's face recogniser: HOG detector, five landmarks, and a ResNet's embedding of the aligned face.

    Of several faces the largest counts. Similarity is 1 minus the distance of the embeddings; dlib takes two faces for
    one person from 0.4 on.

    Raises:
        DependencyError: The extra ``faces`` is not installed.
    """

    def __init__(self) -> None:
        self._dlib, weights = load_dlib()
        self._detector = self._dlib.get_frontal_face_detector()
        self._landmarks = self._dlib.shape_predictor(weights.pose_predictor_five_point_model_location())
        self._network = self._dlib.face_recognition_model_v1(weights.face_recognition_model_location())

    def embed(self, pictures: Sequence[Image.Image]) -> list[np.ndarray | None]:
        """Vectors of 128 numbers; None where no face is found."""
        return [self._embedded(picture) for picture in pictures]

    def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
        """1 minus the Euclidean distance."""
        return 1.0 - float(np.linalg.norm(one - other))

    def locate(self, picture: Image.Image) -> Box | None:
        """Box of the largest face as parts of width and height; None if no face is found."""
        found = self._largest(np.asarray(picture.convert("RGB")))
        if found is None:
            return None
        width, height = picture.size
        return found.left() / width, found.top() / height, found.right() / width, found.bottom() / height

    def _embedded(self, picture: Image.Image) -> np.ndarray | None:
        pixels = np.asarray(picture.convert("RGB"))
        found = self._largest(pixels)
        if found is None:
            return None
        face = self._dlib.get_face_chip(pixels, self._landmarks(pixels, found))  # (150, 150, 3)
        return np.asarray(self._network.compute_face_descriptor(face))

    def _largest(self, pixels: np.ndarray) -> Any:
        return max(self._detector(pixels, _UPSAMPLED), key=lambda one: one.area(), default=None)


def load_dlib() -> tuple[Any, Any]:
    """dlib, and the package that holds its weights.

    Raises:
        DependencyError: The extra ``faces`` is not installed.
    """
    try:
        import dlib  # pyright: ignore[reportMissingImports]
        import face_recognition_models  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("Finding faces needs", "faces") from error
    return dlib, face_recognition_models
