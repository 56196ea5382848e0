"""The aligned crop of a face as in FFHQ, whose construction is that of CelebA-HQ (arXiv 1710.10196, appendix C)."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 512  # pixels of the crop; vision towers read 224 to 448


@dataclass(frozen=True)
class Landmarks:
    """Points of a face in pixels of the picture, each (x, y); left and right as seen by the viewer.

    Attributes:
        left_eye: Centre of the eye on the left.
        right_eye: Centre of the eye on the right.
        mouth: Point between the corners of the mouth.
    """

    left_eye: np.ndarray
    right_eye: np.ndarray
    mouth: np.ndarray

    @property
    def between_eyes(self) -> float:
        """Pixels between the eyes."""
        return float(np.linalg.norm(self.right_eye - self.left_eye))


def corners(face: Landmarks) -> np.ndarray:
    """Corners of the square around a face, in pixels of the picture.

    Args:
        face: Where eyes and mouth are.

    Returns:
        (4, 2): top left, bottom left, bottom right, top right, as Pillow's ``QUAD`` takes them.
    """
    eyes = (face.left_eye + face.right_eye) / 2
    across = face.right_eye - face.left_eye  # x′
    up = eyes - face.mouth  # y′, from the mouth to the eyes
    centre = eyes - 0.1 * up
    side = max(4.0 * np.linalg.norm(across), 3.6 * np.linalg.norm(up))
    x = across - _quarter_turn(up)
    x = x / np.linalg.norm(x) * side / 2
    y = _quarter_turn(x)  # down, as pixels count downwards
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def crop_aligned(picture: Image.Image, face: Landmarks) -> Image.Image:
    """Cut out the square around a face, upright, with ``SIDE`` pixels; beyond its edges the picture is mirrored.

    Args:
        picture: In RGB.
        face: Where eyes and mouth are.
    """
    quad = corners(face)
    patch, origin = _mirrored(picture, quad)
    quad = quad - origin
    size = 2 * SIDE  # first twice as large, so that the turned pixels are averaged
    shrink = min(1.0, size / float(np.linalg.norm(quad[3] - quad[0])))
    if shrink < 1:
        smaller = tuple(max(1, round(length * shrink)) for length in patch.size)
        quad = quad * (np.array(smaller) / patch.size)
        patch = patch.resize(smaller, Image.Resampling.LANCZOS)
    turned = patch.transform((size, size), Image.Transform.QUAD, quad.ravel().tolist(), Image.Resampling.BILINEAR)
    return turned.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def sharpness(crop: Image.Image) -> float:
    """Variance of the Laplacian of a crop in grey at 256 x 256 pixels, in squared grey levels of 0..255."""
    grey = np.asarray(crop.convert("L").resize((256, 256), Image.Resampling.LANCZOS), dtype=np.float64)
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def _quarter_turn(vector: np.ndarray) -> np.ndarray:
    """Turn by 90 degrees, from right to down."""
    return np.array([-vector[1], vector[0]])


def _mirrored(picture: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The part of the picture around a quad, mirrored where the quad leaves the picture; and its corner, (2,)."""
    low = [math.floor(value) - 2 for value in quad.min(0)]
    high = [math.ceil(value) + 2 for value in quad.max(0)]
    inner = [max(low[0], 0), max(low[1], 0), min(high[0], picture.width), min(high[1], picture.height)]
    pixels = np.asarray(picture.crop(inner))
    beyond = [(inner[1] - low[1], high[1] - inner[3]), (inner[0] - low[0], high[0] - inner[2]), (0, 0)]
    return Image.fromarray(np.pad(pixels, beyond, mode="symmetric")), np.array(low)
