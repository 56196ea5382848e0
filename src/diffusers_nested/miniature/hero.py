"""A small picture of a few rows, whose text can be read on a telephone."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .poster import INK, PAPER

CELL, GAP, TEXT = 160, 8, 26  # pixels
PALE = (96, 96, 106)

Row = tuple[str, Sequence[np.ndarray]]


def hero(heading: str, columns: Sequence[str], rows: Sequence[Row], footer: str) -> Image.Image:
    """Lay out rows of pictures (32, 32, 3) under the names of their columns, each row below its label.

    The smallest letters are ``TEXT`` pixels high, which is at least 1/40 of the width for up to six columns.
    """
    line = 2 * TEXT
    lines = [(heading, TEXT + 8), (footer, TEXT), *((label, TEXT) for label, _ in rows)]
    longest = max(int(ImageFont.load_default(size).getlength(text)) for text, size in lines)
    width = max(len(columns) * (CELL + GAP), longest + GAP) + GAP
    image = Image.new("RGB", (width, 3 * line + len(rows) * (line + CELL + GAP)), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((GAP, line // 2), heading, INK, ImageFont.load_default(TEXT + 8), anchor="lm")
    for j, text in enumerate(columns):
        draw.text((_left(j) + CELL // 2, line * 3 // 2), text, INK, ImageFont.load_default(TEXT), anchor="mm")
    for i, (label, pictures) in enumerate(rows):
        top = 2 * line + i * (line + CELL + GAP)
        draw.text((GAP, top + line // 2), label, INK, ImageFont.load_default(TEXT), anchor="lm")
        for j, picture in enumerate(pictures):
            big = Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.NEAREST)
            image.paste(big, (_left(j), top + line))
    draw.text((GAP, image.height - line // 2), footer, PALE, ImageFont.load_default(TEXT), anchor="lm")
    return image


def _left(column: int) -> int:
    return GAP + column * (CELL + GAP)
