"""Heat on pictures, marked points, and sheets whose labels can be read on a telephone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import NestedAdapterError
from ..images import to_pil

CELL, GAP, TEXT = 224, 12, 26  # pixels of a sheet
INK, PALE, PAPER = (40, 40, 48), (96, 96, 106), (255, 255, 255)
# From nothing to most: black, violet, red, orange, light yellow; brightness rises all the way.
_COLOURS = torch.tensor(
    [[0, 0, 12], [86, 20, 120], [205, 52, 78], [250, 150, 40], [255, 250, 190]], dtype=torch.float32
)
_HEAT = 0.75  # how much of the most intense heat covers the picture
_LEAST = 256  # pixels of the longer side: smaller pictures are enlarged


def picture_of(given: Any, own: Image.Image | None) -> Image.Image:
    """The picture that is given, or the call's own.

    Raises:
        NestedAdapterError: There is neither.
    """
    if given is None and own is None:
        raise NestedAdapterError(
            "The call returned no picture (it is still running, or its output_type is latent). Give one: overlay(image)."
        )
    return to_pil(own if given is None else given)


def heat(values: Tensor) -> Tensor:
    """Colours (h, w, 3) from 0 to 255 of values (h, w) from 0 to 1."""
    at = values.clamp(0, 1) * (len(_COLOURS) - 1)
    low = at.floor().clamp(max=len(_COLOURS) - 2).long()
    return torch.lerp(_COLOURS[low], _COLOURS[low + 1], (at - low)[..., None])


def overlay(picture: Image.Image, values: Tensor) -> Image.Image:
    """Values (h, w) as heat on a picture: the least of them leaves it grey and dark, the most is bright."""
    large = enlarged(picture)
    sized = F.interpolate(values.float()[None, None], (large.height, large.width), mode="bilinear")[0, 0]
    strength = (sized - sized.min()) / (sized.max() - sized.min()).clamp(min=1e-12)
    below = torch.from_numpy(np.array(large.convert("L").convert("RGB"))).float() * 0.55
    part = _HEAT * strength.clamp(0, 1)[..., None]
    mixed = below * (1 - part) + heat(strength) * part
    return Image.fromarray(mixed.round().clamp(0, 255).to(torch.uint8).numpy())


def enlarged(picture: Image.Image) -> Image.Image:
    """A small picture enlarged pixel by pixel."""
    times = -(-_LEAST // max(picture.size))
    size = (picture.width * times, picture.height * times)
    return picture if times == 1 else picture.resize(size, Image.Resampling.NEAREST)


def marked(picture: Image.Image, point: tuple[float, float], name: str = "") -> Image.Image:
    """A picture with a ring around a point, given in its pixels, and a letter."""
    large = enlarged(picture).copy()
    scale = large.width / picture.width
    x, y = point[0] * scale, point[1] * scale
    draw, radius = ImageDraw.Draw(large), max(large.size) / 24
    for colour, width in (((255, 255, 255), 0.4), ((220, 30, 60), 0.2)):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, outline=colour, width=max(2, round(radius * width)))
    if name:
        font = ImageFont.load_default(round(radius * 1.6))
        draw.text((x, y), name, PAPER, font, anchor="mm", stroke_width=3, stroke_fill=INK)
    return large


def sheet(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image | None]]]) -> Image.Image:
    """Pictures in rows, each below its label, under the headings of their columns.

    Args:
        title: A sentence above all, broken into lines.
        columns: A heading for each column, or none at all.
        rows: A label, which may be empty, and pictures; None leaves a cell empty.
    """
    count = max([len(columns), *[len(cells) for _, cells in rows]])
    width = count * (CELL + GAP) + GAP
    above = _lines(title, width, TEXT + 4)
    labels = [_lines(label, width, TEXT) if label else [] for label, _ in rows]
    headings = [_lines(one, CELL + GAP, TEXT - 4) for one in columns]
    head = max([len(lines) for lines in headings], default=0)
    line = round(TEXT * 1.4)
    height = (len(above) + head) * line + sum(len(one) * line + CELL + GAP for one in labels) + 2 * GAP
    image = Image.new("RGB", (width, height), PAPER)
    top = _write(image, above, GAP, GAP, TEXT + 4, line)
    for j, lines in enumerate(headings):
        _write(image, lines, _left(j) + CELL // 2, top + (head - len(lines)) * line, TEXT - 4, line, centred=True)
    top += head * line
    for lines, (_, cells) in zip(labels, rows, strict=True):
        top = _write(image, lines, GAP, top, TEXT, line)
        for j, cell in enumerate(cells):
            if cell is not None:
                image.paste(_fitted(cell), (_left(j), top))
        top += CELL + GAP
    return image


def _left(column: int) -> int:
    return GAP + column * (CELL + GAP)


def _fitted(picture: Image.Image) -> Image.Image:
    """A picture in a square cell, whole."""
    method = Image.Resampling.NEAREST if max(picture.size) < CELL else Image.Resampling.LANCZOS
    scale = CELL / max(picture.size)
    small = picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)), method)
    cell = Image.new("RGB", (CELL, CELL), (238, 238, 240))
    cell.paste(small, ((CELL - small.width) // 2, (CELL - small.height) // 2))
    return cell


def _write(image: Image.Image, lines: list[str], x: int, top: int, size: int, line: int, centred: bool = False) -> int:
    """Write lines, and give the place below them."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for i, text in enumerate(lines):
        draw.text((x, top + i * line + line // 2), text, INK, font, anchor="mm" if centred else "lm")
    return top + len(lines) * line


def _lines(text: str, width: int, size: int) -> list[str]:
    """A text broken into lines of at most this width in pixels."""
    font, lines = ImageFont.load_default(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 2 * GAP or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
