"""Sheets that show a whole call: words, values by layer, and points followed to the photos."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ..errors import NestedAdapterError
from .locate import layer_name
from .pictures import Cell, enlarged, marked, picture_of, sheet
from .trace import Trace

COLUMNS = 4
_POINTS = 3
_LAYERS = 7


def word_sheet(trace: Trace, words: Sequence[str], picture: int = 0) -> Image.Image:
    """Where a picture looks for each of some words, beside the picture.

    Args:
        trace: After a call that returned pictures.
        words: Words of the prompt.
        picture: Which picture of the call, counted from 0.

    Raises:
        NestedAdapterError: A word is not in the prompt, or nothing has been recorded.
    """
    maps = [trace.word_map(word, picture=picture) for word in words]
    shown = maps[0].picture
    cells: list[Cell] = [] if shown is None else [("the picture", enlarged(shown))]
    cells += [(f'"{one.word}", {one.share:.1%}', one.overlay()) for one in maps]
    return sheet("Where the picture looks for each word, and the word's part of all attention", _rows(cells))


def value_sheet(trace: Trace, subject: str | None = None, picture: int = 0) -> Image.Image:
    """The values that the queries read at a subject's word, in layers spread over the UNet, as colours.

    Args:
        trace: After a call with a subject.
        subject: The subject's word; may be left out if there is only one.
        picture: Which picture of the call, counted from 0.

    Raises:
        NestedAdapterError: Nothing has been recorded, or the subject's mechanism has no such values.
    """
    paths = _spread(sorted(trace.layers, key=_along), _LAYERS)
    shown = trace.word_map(0, picture=picture).picture
    cells: list[Cell] = [] if shown is None else [("the picture", enlarged(shown))]
    failed = None
    for path in paths:
        try:
            cells.append((layer_name(path), trace.values(path, subject=subject, picture=picture).image()))
        except NestedAdapterError as error:  # the subject may act in some layers only
            failed = error
    if failed is not None and len(cells) < 2:
        raise failed
    word = trace.values(subject=subject, picture=picture).word if subject is None else subject
    title = f'What each place reads at the word "{word}" in some layers. Like colours: like values. Grey: no difference'
    return sheet(title, _rows(cells))


def follow_sheet(
    trace: Trace, points: Sequence[tuple[float, float]] = (), subject: str | None = None, picture: int = 0
) -> Image.Image:
    """Points of a picture, and the places of the photos that each of them reads.

    Args:
        trace: After a call with a subject, given by photos, that returned pictures.
        points: (x, y) in pixels; without any, a few places where the picture looks for the subject's word.
        subject: The subject's word; may be left out if there is only one.
        picture: Which picture of the call, counted from 0.

    Raises:
        NestedAdapterError: A point is outside, or nothing can be followed; see ``Trace.follow``.
    """
    points = points or _standing_out(trace, subject, picture)
    found = {chr(ord("A") + i): trace.follow(one, subject=subject, picture=picture) for i, one in enumerate(points)}
    first = found["A"]
    shown = marked(picture_of(None, first.picture), {letter: one.point for letter, one in found.items()})
    rows = []
    for i in range(len(first.photos)):
        cells = [(f"{letter} reads here", one.overlay(i)) for letter, one in found.items()]
        rows.append(("" if len(first.photos) == 1 else f"photo {i + 1}", [("the picture", shown), *cells]))
    return sheet(f'Where on the photo the places of the picture read the "{first.word}"', rows)


def _standing_out(trace: Trace, subject: str | None, picture: int) -> list[tuple[float, float]]:
    """Points, apart from each other, at which the subject's word gets most attention."""
    word = trace.follow((0, 0), subject=subject, picture=picture).word
    found = trace.word_map(word, picture=picture)
    height, width = found.map.shape
    size = (width, height) if found.picture is None else found.picture.size
    return [((x + 0.5) / width * size[0], (y + 0.5) / height * size[1]) for x, y in peaks(found.map, _POINTS)]


def peaks(values: Tensor, count: int) -> list[tuple[int, int]]:
    """The columns and rows of the largest values (h, w) that are at least a fifth of the map apart."""
    height, width = values.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    left, found = values.clone(), []
    for _ in range(count):
        y, x = divmod(int(left.argmax()), width)
        found.append((x, y))
        near = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 0.2**2
        left[near] = -torch.inf
    return found


def _along(path: str) -> int:
    """Whether a layer is on the way down, in the middle or on the way up."""
    return ("down", "mid_", "up_b").index(path[:4])


def _spread(paths: Sequence[str], count: int) -> list[str]:
    """Some of the paths, evenly spread."""
    if len(paths) <= count:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (count - 1))] for i in range(count)]


def _rows(cells: Sequence[Cell]) -> list[tuple[str, Sequence[Cell]]]:
    return [("", cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
