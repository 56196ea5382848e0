"""The aligned crop of a face as in FFHQ, whose construction is that of CelebA-HQ (arXiv 1710.10196, appendix C)."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 512  # pixels of a crop; vision towers read 224 to 448

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of a face in pixels of the picture, each (x, y); left and right as the viewer sees them.

    Attributes:
        left_eye: Centre of the eye on the left.
        right_eye: Centre of the eye on the right.
        mouth: Point between the corners of the mouth.
    """

    left_eye: np.ndarray
    right_eye: np.ndarray
    mouth: np.ndarray


def face_square(face: Landmarks) -> np.ndarray:
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
    half = max(2.0 * np.linalg.norm(across), 1.8 * np.linalg.norm(up))
    x = across + _quarter_turn(up)  # mean of the directions that the eyes and the nose give, if both are as long
    x = x / np.linalg.norm(x) * half
    y = _quarter_turn(x)  # down, as pixels count downwards
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def side_of(square: np.ndarray) -> float:
    """Pixels along the upper side of a square (4, 2)."""
    return float(np.linalg.norm(square[3] - square[0]))


def crop_square(picture: Image.Image, square: np.ndarray, side: int = SIDE) -> Image.Image:
    """Cut out a square, turned or not; beyond its edges the picture is mirrored.

    Args:
        picture: In any mode of 8 bits per channel.
        square: Its corners (4, 2) as ``face_square`` gives them, where (0, 0) is the centre of the first pixel.
        side: Pixels of the result in width and height.
    """
    patch, origin = _mirrored(picture, square)
    square = square - origin + 0.5  # Pillow counts from the pixel's corner
    size = 2 * side  # first twice as large, so that the turned pixels are averaged
    shrink = min(1.0, size / side_of(square))
    if shrink < 1:
        smaller = (max(1, round(patch.width * shrink)), max(1, round(patch.height * shrink)))
        square = square * (np.array(smaller) / patch.size)
        patch = patch.resize(smaller, Image.Resampling.LANCZOS)
    turned = patch.transform((size, size), Image.Transform.QUAD, square.ravel().tolist(), Image.Resampling.BILINEAR)
    return turned.resize((side, side), Image.Resampling.LANCZOS)


def crop_box(picture: Image.Image, box: Box) -> Image.Image:
    """Cut out a box as it is; beyond its edges the picture is mirrored.

    Args:
        picture: In any mode of 8 bits per channel.
        box: Left, top, right and bottom in pixels, at least a part of it within the picture.
    """
    left, top, right, bottom = box
    inner = (max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height))
    pixels = np.asarray(picture.crop(inner))
    beyond = [(inner[1] - top, bottom - inner[3]), (inner[0] - left, right - inner[2])]
    beyond += [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, beyond, mode="symmetric"))


def sharpness(crop: Image.Image) -> float:
    """Variance of the Laplacian of a crop in grey at 256 x 256 pixels, in squared grey levels of 0..255."""
    grey = np.asarray(crop.convert("L").resize((256, 256), Image.Resampling.LANCZOS), dtype=np.float64)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var())


def _quarter_turn(vector: np.ndarray) -> np.ndarray:
    """Turn by 90 degrees, from right to down and from up to right."""
    return np.array([-vector[1], vector[0]])


def _mirrored(picture: Image.Image, square: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The part of the picture around a square, mirrored where the square leaves the picture; and its corner, (2,)."""
    low = [math.floor(value) - 2 for value in square.min(0)]
    high = [math.ceil(value) + 3 for value in square.max(0)]
    return crop_box(picture, (low[0], low[1], high[0], high[1])), np.array(low)
