"""Which pictures are drawn of one wish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from PIL import Image

from .maps import Captioned
from .wish import Wish

COUNT = 4  # pictures in a series


class Compare(Enum):
    """What the pictures of a series differ in."""

    NOTHING = "One picture"
    SEEDS = "Four seeds"
    SCALES = "Four scales"


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        caption: What stands below it.
        seed: Of the noise.
        scale: How strongly subjects act; None for the plain prompt.
    """

    caption: str
    seed: int
    scale: float | None


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is shown.

    Attributes:
        plain: Of the prompt alone.
        personal: With the photos; None without any.
        series: Pictures that differ in seed or scale, with captions.
        maps: Where the subjects' words act in ``personal``, with captions.
    """

    plain: Image.Image
    personal: Image.Image | None
    series: Sequence[Captioned]
    maps: Sequence[Captioned]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn.

    Attributes:
        pictures: The picture of each shot.
        maps: Where the subjects' words act in the first, with captions.
    """

    pictures: Mapping[Shot, Image.Image]
    maps: Sequence[Captioned]


def shots_of(wish: Wish, compare: Compare) -> list[Shot]:
    """The pictures to draw: first the one with the photos, then the plain one, then the others of the series.

    A wrong word shows in the first, so that it does not take the time of a picture to tell.
    """
    seed, scale = int(wish.seed), wish.scale if wish.subjects else None
    shots = [_shot(seed, scale)] if wish.subjects else []
    shots.append(_shot(seed, None))
    return list(dict.fromkeys([*shots, *series_of(wish, compare)]))


def series_of(wish: Wish, compare: Compare) -> list[Shot]:
    """The pictures of the series, in the order in which they are shown."""
    seed, scale = int(wish.seed), wish.scale if wish.subjects else None
    if compare is Compare.SEEDS:
        return [_shot(seed + i, scale) for i in range(COUNT)]
    if compare is Compare.SCALES and scale is not None:
        return [_shot(seed, scale * (i + 1) / COUNT) for i in range(COUNT)]
    return []


def arranged(wish: Wish, compare: Compare, drawn: Drawn) -> Pictures:
    """The drawn pictures, each in its place."""
    pictures, seed = drawn.pictures, int(wish.seed)
    personal = pictures[_shot(seed, wish.scale)] if wish.subjects else None
    series = [(pictures[shot], shot.caption) for shot in series_of(wish, compare)]
    return Pictures(pictures[_shot(seed, None)], personal, series, drawn.maps)


def _shot(seed: int, scale: float | None) -> Shot:
    return Shot(f"seed {seed}" if scale is None else f"seed {seed}, λ = {scale:.3g}", seed, scale)
