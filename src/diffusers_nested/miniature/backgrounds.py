"""The places of the miniature world, painted on a canvas."""

from typing import Protocol

import numpy as np

from .world import RGB


class Paintable(Protocol):
    """What a place is painted on."""

    def box(self, left: int, top: int, width: int, height: int, colour: RGB) -> None:
        """Fill a rectangle."""


def draw_place(canvas: Paintable, place: str, rng: np.random.Generator) -> None:
    """Fill the canvas with a place; ``rng`` chooses the side of its details."""
    side = int(rng.integers(2))
    _PLACES[place](canvas, side)


def _studio(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 32, (202, 202, 208))


def _beach(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 16, (122, 200, 250))
    canvas.box(0, 16, 32, 5, (30, 110, 200))
    canvas.box(0, 21, 32, 11, (242, 216, 140))
    canvas.box(1 + 25 * side, 1, 5, 5, (255, 226, 60))


def _snow(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 21, (170, 196, 232))
    for step in range(8):
        canvas.box(6 - step + 18 * side, 9 + step, 2 + 2 * step, 1, (130, 142, 170))
        canvas.box(22 - step - 18 * side, 13 + step, 2 + 2 * step, 1, (110, 122, 152))
    canvas.box(0, 20, 32, 12, (250, 252, 255))


def _forest(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 22, (140, 206, 150))
    for column in (-1 + side, 6 + side, 25 - side, 31 - side):
        for step in range(6):
            canvas.box(column - step // 2, 5 + 3 * step, 1 + 2 * (step // 2), 3, (24, 92, 44))
    canvas.box(0, 22, 32, 10, (56, 116, 50))


def _city(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 32, (22, 20, 62))
    for column, top in ((0, 5 + 4 * side), (8, 11), (17, 10), (25, 9 - 4 * side)):
        canvas.box(column, top, 7, 22, (52, 50, 96))
        for row in range(top + 2, 24, 4):
            canvas.box(column + 1, row, 2, 2, (250, 214, 96))
            canvas.box(column + 4, row, 2, 2, (250, 214, 96))
    canvas.box(0, 26, 32, 6, (44, 44, 52))


def _desert(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 20, (252, 184, 110))
    canvas.box(0, 20, 32, 12, (214, 130, 62))
    column = 1 if side else 28
    canvas.box(column, 9, 3, 13, (36, 132, 62))
    canvas.box(column - 2, 12, 2, 4, (36, 132, 62))
    canvas.box(column + 3, 11, 2, 4, (36, 132, 62))


def _room(canvas: Paintable, side: int) -> None:
    canvas.box(0, 0, 32, 24, (226, 204, 170))
    canvas.box(0, 24, 32, 8, (138, 84, 48))
    column = 1 if side else 23
    canvas.box(column, 2, 8, 9, (255, 255, 255))
    canvas.box(column + 1, 3, 3, 7, (130, 206, 255))
    canvas.box(column + 5, 3, 2, 7, (130, 206, 255))


_PLACES = {
    "studio": _studio,
    "beach": _beach,
    "snow": _snow,
    "forest": _forest,
    "city": _city,
    "desert": _desert,
    "room": _room,
}
