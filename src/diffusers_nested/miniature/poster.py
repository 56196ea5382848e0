"""Labelled grids of small pictures in one large picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..images.thumbnails import wrapped

CELL = 96  # pixels of a picture on the poster
GAP = 6
INK = (40, 40, 48)
PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """A titled grid.

    Attributes:
        title: One line above the grid.
        columns: A heading per column.
        rows: Per row, a label and pictures (32, 32, 3); None leaves a cell empty.
        label_width: Width of the labels at the left, in pixels.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[np.ndarray | None]]]
    label_width: int = 230

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width = self.label_width + len(self.columns) * (CELL + GAP) + GAP
        return width, 64 + len(self.rows) * (CELL + GAP) + GAP


def poster(panels: Sequence[Panel], heading: str, footer: str) -> Image.Image:
    """Stack panels, with a heading above and a line of text below."""
    width = max(panel.size[0] for panel in panels) + 2 * GAP
    height = 52 + sum(panel.size[1] for panel in panels) + 34
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((2 * GAP, 14), heading, INK, ImageFont.load_default(22))
    top = 52
    for panel in panels:
        _paint(image, draw, panel, top)
        top += panel.size[1]
    draw.text((2 * GAP, top + 8), footer, (110, 110, 120), ImageFont.load_default(13))
    return image


def _paint(image: Image.Image, draw: ImageDraw.ImageDraw, panel: Panel, top: int) -> None:
    draw.text((2 * GAP, top + 8), panel.title, INK, ImageFont.load_default(17))
    for j, text in enumerate(panel.columns):
        left = panel.label_width + j * (CELL + GAP)
        draw.text((left + CELL // 2, top + 50), text, INK, ImageFont.load_default(12), anchor="mm")
    for i, (label, pictures) in enumerate(panel.rows):
        above = top + 62 + i * (CELL + GAP)
        text = wrapped(label, panel.label_width - 3 * GAP)
        draw.multiline_text((2 * GAP, above + CELL // 2), text, INK, ImageFont.load_default(13), anchor="lm", spacing=4)
        for j, picture in enumerate(pictures):
            if picture is not None:
                big = Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.NEAREST)
                image.paste(big, (panel.label_width + j * (CELL + GAP), above))
