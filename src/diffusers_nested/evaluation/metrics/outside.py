"""How much an adapter changes the picture outside the subject (prior preservation)."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ...errors import NestedAdapterError
from ...images.faces import Box, DlibFaces
from ..shots import Shot
from .base import Metric, Scores

_GROWTH = 0.5  # of a face's box on every side, for hair and chin


class OutsideChange(Metric):
    """Mean absolute difference to the plain pipeline's picture of the same noise, outside the subject's box.

    The mean is over the pixels outside the box and the three channels, in units of the full range: 0 means no change, 1
    means black instead of white.

    Args:
        name: Column of the results.
        box: Where the subject is: left, top, right and bottom as fractions of width and height. Or ``"face"``: around
            the largest faces of both pictures, enlarged by half their size on every side; a picture fails if neither
            shows a face.
    """

    needs_plain = True

    def __init__(self, name: str, box: Sequence[float] | str) -> None:
        super().__init__(name)
        self._locate: Callable[[Image.Image], Box | None] = _finder(name, box)

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Compute the differences."""
        assert plain is not None  # as needs_plain is set
        return [{self.name: self._compared(*pair)} for pair in zip(pictures, plain, strict=True)]

    def _compared(self, picture: Image.Image, plain: Image.Image) -> float | None:
        boxes = [box for box in (self._locate(picture), self._locate(plain)) if box is not None]
        if not boxes:
            return None
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return change_outside(picture, plain, (min(lefts), min(tops), max(rights), max(bottoms)))


def change_outside(picture: Image.Image, plain: Image.Image, box: Box) -> float | None:
    """Mean absolute difference of two pictures outside a box, from 0 to 1; None if nothing is outside.

    Raises:
        NestedAdapterError: The pictures differ in size.
    """
    if picture.size != plain.size:
        raise NestedAdapterError(
            f"A picture must have the size of the plain pipeline's, {plain.size}, got {picture.size}. Let all "
            "contestants make pictures of one size."
        )
    one, other = (np.asarray(image.convert("RGB"), np.float64) / 255 for image in (picture, plain))
    width, height = picture.size
    left, top, right, bottom = (
        round(edge * size) for edge, size in zip(box, (width, height, width, height), strict=True)
    )
    outside = np.ones((height, width), bool)
    outside[top:bottom, left:right] = False
    return float(np.abs(one - other)[outside].mean()) if outside.any() else None


def grown(box: Box) -> Box:
    """Enlarge a face's box to the head, within the picture."""
    left, top, right, bottom = box
    across, down = _GROWTH * (right - left), _GROWTH * (bottom - top)
    return max(left - across, 0.0), max(top - down, 0.0), min(right + across, 1.0), min(bottom + down, 1.0)


def _finder(name: str, box: Sequence[float] | str) -> Callable[[Image.Image], Box | None]:
    if box != "face":
        fixed = _checked_box(box, name)
        return lambda picture: fixed
    faces = DlibFaces()

    def locate(picture: Image.Image) -> Box | None:
        found = faces.locate(picture)
        return None if found is None else grown(found)

    return locate


def _checked_box(box: Sequence[float] | str, name: str) -> Box:
    """Check that a box has its edges in order and leaves something outside.

    Raises:
        NestedAdapterError: It does not.
    """
    edges = tuple(box) if isinstance(box, list | tuple) else ()
    if len(edges) != 4 or not all(isinstance(edge, int | float) for edge in edges):
        raise NestedAdapterError(
            f'metrics.{name}.box must be "face" or [left, top, right, bottom], each from 0 to 1, got {box!r}.'
        )
    left, top, right, bottom = map(float, edges)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1) or (left, top, right, bottom) == (0, 0, 1, 1):
        raise NestedAdapterError(
            f"metrics.{name}.box must leave a part of the picture outside, with left < right and top < bottom from 0 "
            f"to 1, got {box!r}."
        )
    return left, top, right, bottom
