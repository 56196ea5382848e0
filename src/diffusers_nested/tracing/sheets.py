"""Sheets that show a whole call: words, values by layer, and points followed to the photos."""

from collections.abc import Sequence

from PIL import Image

from ..errors import NestedAdapterError
from .locate import layer_name
from .pictures import Cell, enlarged, marked, picture_of, sheet
from .trace import Trace

_LAYERS = 8


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
    return sheet("Where the picture looks for each word, and the word's part of all attention", [("", cells)])


def value_sheet(trace: Trace, subject: str | int | None = None, picture: int = 0) -> Image.Image:
    """The values that the queries read at a subject's word, in layers spread over the UNet, as colours.

    Args:
        trace: After a call with a subject.
        subject: The subject's word, or its number in the call; may be left out if there is only one.
        picture: Which picture of the call, counted from 0.

    Raises:
        NestedAdapterError: Nothing has been recorded, or the subject's mechanism has no such values.
    """
    paths = _spread(sorted(trace.layers, key=_along), _LAYERS)
    shown = trace.word_map(0, picture=picture).picture
    cells: list[Cell] = [] if shown is None else [("the picture", enlarged(shown))]
    found, failed = [], None
    for path in paths:
        try:
            found.append(trace.values(path, subject=subject, picture=picture))
        except NestedAdapterError as error:  # the subject may act in some layers only
            failed = error
    if not found and failed is not None:
        raise failed
    cells += [(layer_name(one.layer), one.image()) for one in found]
    word = found[0].word
    title = f'What each place reads at the word "{word}" in some layers. Like colours: like values. Grey: no difference'
    return sheet(title, [("", cells)])


def follow_sheet(
    trace: Trace, points: Sequence[tuple[float, float]] = (), subject: str | int | None = None, picture: int = 0
) -> Image.Image:
    """Points of a picture, and the places of the photos that each of them reads.

    Args:
        trace: After a call with a subject, given by photos, that returned pictures.
        points: (x, y) in pixels; without any, those of ``trace.points()``.
        subject: The subject's word, or its number in the call; may be left out if there is only one.
        picture: Which picture of the call, counted from 0.

    Raises:
        NestedAdapterError: A point is outside, or nothing can be followed; see ``Trace.follow``.
    """
    points = points or trace.points(subject=subject, picture=picture)
    found = {chr(ord("A") + i): trace.follow(one, subject=subject, picture=picture) for i, one in enumerate(points)}
    first = found["A"]
    shown = marked(picture_of(None, first.picture), {letter: one.point for letter, one in found.items()})
    rows = []
    for i in range(len(first.photos)):
        cells = [(f"{letter} reads here", one.overlay(i)) for letter, one in found.items()]
        rows.append(("" if len(first.photos) == 1 else f"photo {i + 1}", [("the picture", shown), *cells]))
    return sheet(f'For each marked place of the picture, where on the photo it reads the "{first.word}"', rows)


def _along(path: str) -> int:
    """Whether a layer is on the way down, in the middle or on the way up."""
    return ("down", "mid_", "up_b").index(path[:4])


def _spread(paths: Sequence[str], count: int) -> list[str]:
    """Some of the paths, evenly spread."""
    if len(paths) <= count:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (count - 1))] for i in range(count)]
