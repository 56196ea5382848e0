"""Finds the subject of a photo, and crops it to an input image."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from ..images.align import SIDE, Box, crop_box, crop_square, sharpness, side_of
from ..images.landmarks import face_finder
from .reject import Reason, Reject

_CLEARLY = 0.5  # part of the largest subject's area that the second largest may have
_MARGIN = 0.1  # around a pet or object, as part of its longer side

Crop = Image.Image | Reject


class Crops(Protocol):
    """Finds subjects in photos."""

    def find(self, picture: Image.Image) -> Sequence[Crop]:
        """Input images of an RGB picture's subjects, the largest first, or why one of them is none.

        Raises:
            Reject: There is no subject, or it is unclear which one is meant.
        """
        ...


class Segments(Protocol):
    """Finds where subjects are."""

    def find(self, picture: Image.Image) -> list[Image.Image]:
        """Masks ("L", 0 or 255) of the subjects in an RGB picture."""
        ...


class FaceCrops:
    """Aligned faces.

    Args:
        every: Take all faces, not only the largest.
        min_size: Least pixels of a face's square.
        min_sharpness: Least ``sharpness`` of a crop.
    """

    def __init__(self, every: bool, min_size: int, min_sharpness: float) -> None:
        self._finder = face_finder()
        self._every = every
        self._min_size = min_size
        self._min_sharpness = min_sharpness

    def find(self, picture: Image.Image) -> Sequence[Crop]:
        """See ``Crops``."""
        squares = self._finder.find(picture)
        if not squares:
            raise Reject(Reason.NO_SUBJECT, "no face")
        if not self._every:
            _check_clear([side_of(square) ** 2 for square in squares], "faces")
            squares = squares[:1]
        return [self._crop(picture, square) for square in squares]

    def _crop(self, picture: Image.Image, square: np.ndarray) -> Crop:
        try:
            _check_size(side_of(square), self._min_size)
            crop = crop_square(picture, square)
            _check_sharpness(crop, self._min_sharpness)
        except Reject as reject:
            return reject
        return crop


class SegmentCrops:
    """Pets or objects, upright, with a margin around them.

    Args:
        segments: Finds their masks.
        white: Put them on white; otherwise the photo's background stays, mirrored beyond its edges.
        min_size: Least pixels of a subject's longer side.
        min_sharpness: Least ``sharpness`` of a crop.
    """

    def __init__(self, segments: Segments, white: bool, min_size: int, min_sharpness: float) -> None:
        self._segments = segments
        self._white = white
        self._min_size = min_size
        self._min_sharpness = min_sharpness

    def find(self, picture: Image.Image) -> Sequence[Crop]:
        """See ``Crops``."""
        masks = [mask for mask in self._segments.find(picture) if mask.getbbox()]
        if not masks:
            raise Reject(Reason.NO_SUBJECT, "nothing of the subject's kind")
        areas = [float(mask.histogram()[255]) for mask in masks]
        _check_clear(sorted(areas, reverse=True), "subjects")
        mask = masks[areas.index(max(areas))]
        left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
        longer = max(right - left, bottom - top)
        _check_size(longer, self._min_size)
        side = round(longer * (1 + 2 * _MARGIN))
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        box = (x, y, x + side, y + side)
        crop = crop_box(picture, box)
        _check_sharpness(crop, self._min_sharpness)  # before white edges make it look sharp
        crop = _on_white(picture, mask, box) if self._white else crop
        return [crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS)]


def _on_white(picture: Image.Image, mask: Image.Image, box: Box) -> Image.Image:
    subject = picture.crop(box)  # black beyond the picture, where the mask is 0
    return Image.composite(subject, Image.new("RGB", subject.size, "white"), mask.crop(box))


def _check_clear(areas: Sequence[float], what: str) -> None:
    """Raise unless the first of the areas, which are sorted, is much the largest."""
    if len(areas) > 1 and areas[1] > _CLEARLY * areas[0]:
        raise Reject(
            Reason.SEVERAL_SUBJECTS,
            f"{len(areas)} {what}, the second has {areas[1] / areas[0]:.0%} of the largest one's area",
        )


def _check_size(size: float, least: int) -> None:
    if size < least:
        raise Reject(Reason.TOO_SMALL, f"{size:.0f} pixels, expected at least {least}")


def _check_sharpness(crop: Image.Image, least: float) -> None:
    value = sharpness(crop)
    if value < least:
        raise Reject(Reason.BLURRED, f"sharpness {value:.1f}, expected at least {least:g}")
