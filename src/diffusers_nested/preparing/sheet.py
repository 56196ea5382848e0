"""The contact sheet of a training set: inputs, targets and captions at one glance."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..files.write_whole import write_whole
from ..images import open_photo, to_pil
from ..images.thumbnails import thumbnail, wrapped
from .names import FILES

_MOST, _COLUMNS = 50, 5
_CELL, _GAP, _LABEL, _LINES = 128, 8, 54, 3
_INK, _PAPER = (40, 40, 48), (255, 255, 255)


def write_sheet(file: Path, folder: Path, examples: Sequence[dict[str, Any]]) -> None:
    """Draw up to 50 examples, spread evenly over the whole set: the input, the target, and the caption below.

    Args:
        file: The PNG to write.
        folder: The training set.
        examples: Its rows.
    """
    count = min(len(examples), _MOST)
    chosen = [examples[number * len(examples) // count] for number in range(count)]
    width, height = 2 * _CELL + 3 * _GAP, _CELL + _LABEL + _GAP
    columns, rows = min(count, _COLUMNS) or 1, -(-count // _COLUMNS) or 1
    sheet = Image.new("RGB", (columns * width, rows * height + _GAP), _PAPER)
    for number, example in enumerate(chosen):
        _draw(sheet, number % _COLUMNS * width + _GAP, number // _COLUMNS * height + _GAP, folder, example)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_whole(file, buffer.getvalue())


def _draw(sheet: Image.Image, left: int, top: int, folder: Path, example: dict[str, Any]) -> None:
    for place, column in enumerate(FILES):
        picture = to_pil(open_photo(folder / example[column]))
        sheet.paste(thumbnail(picture, _CELL), (left + place * (_CELL + _GAP // 2), top))
    lines = wrapped(example["text"], 2 * _CELL).split("\n")
    text = "\n".join([*lines[: _LINES - 1], " ".join(lines[_LINES - 1 :])[:48]])
    ImageDraw.Draw(sheet).multiline_text((left, top + _CELL + 4), text, _INK, ImageFont.load_default(13), spacing=3)
