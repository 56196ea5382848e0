"""Which pictures are drawn of one wish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from PIL import Image

from .maps import Maps
from .wish import Wish

COUNT = 4  # pictures in a series
Captioned = tuple[Image.Image, str]


class Compare(Enum):
    """What the pictures of a series differ in."""

    NOTHING = "One picture"
    SEEDS = "Four seeds"
    SCALES = "Four scales"


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        seed: Of the noise.
        scale: How strongly subjects act; None for the plain prompt.
    """

    seed: int
    scale: float | None


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is shown.

    Attributes:
        plain: Of the prompt alone.
        personal: With the photos; None without any.
        series: Pictures that differ in seed or scale, with captions.
        maps: Where words act in ``personal``; None if nobody asked, or the pipeline cannot tell.
    """

    plain: Image.Image
    personal: Image.Image | None
    series: Sequence[Captioned]
    maps: Maps | None


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn.

    Attributes:
        pictures: The picture of each shot.
        maps: Where words act in the first; None if nobody asked, or the pipeline cannot tell.
    """

    pictures: Mapping[Shot, Image.Image]
    maps: Maps | None


def shots_of(wish: Wish, compare: Compare) -> list[Shot]:
    """The pictures to draw: first the one with the photos, then the plain one, then the others of the series.

    A wrong word shows in the first, so that it does not take the time of a picture to tell.
    """
    first, plain = Shot(int(wish.seed), _scale(wish)), Shot(int(wish.seed), None)
    return list(dict.fromkeys([first, plain, *(shot for shot, _ in _series(wish, compare))]))


def arranged(wish: Wish, compare: Compare, drawn: Drawn) -> Pictures:
    """The drawn pictures, each in its place."""
    pictures, seed = drawn.pictures, int(wish.seed)
    personal = pictures[Shot(seed, _scale(wish))] if wish.subjects else None
    series = [(pictures[shot], caption) for shot, caption in _series(wish, compare)]
    return Pictures(pictures[Shot(seed, None)], personal, series, drawn.maps)


def _scale(wish: Wish) -> float | None:
    return wish.scale if wish.subjects else None


def _series(wish: Wish, compare: Compare) -> list[tuple[Shot, str]]:
    """The pictures of the series with their captions, in the order in which they are shown."""
    seed = int(wish.seed)
    if compare is Compare.SEEDS:
        return [(Shot(seed + i, _scale(wish)), f"seed {seed + i}") for i in range(COUNT)]
    if compare is Compare.SCALES and wish.subjects:
        scales = [wish.scale * (i + 1) / COUNT for i in range(COUNT)]
        return [(Shot(seed, scale), f"λ = {scale:.3g}") for scale in scales]
    return []
