"""Heat on pictures, marked points, and sheets whose labels can be read on a telephone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import NestedAdapterError
from ..images import to_pil

CELL, GAP, TEXT, SMALL, LINE = 224, 12, 26, 22, 34  # pixels of a sheet
INK, PAPER = (40, 40, 48), (255, 255, 255)
# From nothing to most: black, violet, red, orange, light yellow; brightness rises all the way.
_COLOURS = torch.tensor(
    [[0, 0, 12], [86, 20, 120], [205, 52, 78], [250, 150, 40], [255, 250, 190]], dtype=torch.float32
)
_HEAT = 0.75  # how much of the most intense heat covers the picture
_BELOW = 0.7  # brightness of the picture below
_ABREAST = 3  # pictures in a line: more would be too small on a telephone
_LEAST = 256  # pixels of the longer side: smaller pictures are enlarged


def picture_of(given: Any, own: Image.Image | None) -> Image.Image:
    """The picture that is given, or the call's own.

    Raises:
        NestedAdapterError: There is neither.
    """
    if given is None and own is None:
        raise NestedAdapterError(
            "The call returned no picture (it still runs, or its output_type is latent). Give one: overlay(image)."
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
    strength = spread_over(large, values)
    below = torch.from_numpy(np.array(large.convert("L").convert("RGB"))).float() * _BELOW
    part = _HEAT * strength[..., None]
    mixed = below * (1 - part) + heat(strength) * part
    return Image.fromarray(mixed.round().clamp(0, 255).to(torch.uint8).numpy())


def spread_over(picture: Image.Image, values: Tensor) -> Tensor:
    """Values (h, w) at the size of a picture, (H, W), from 0 for the least to 1 for the most."""
    sized = F.interpolate(values.float()[None, None], (picture.height, picture.width), mode="bilinear")[0, 0]
    return ((sized - sized.min()) / (sized.max() - sized.min()).clamp(min=1e-12)).clamp(0, 1)


def enlarged(picture: Image.Image) -> Image.Image:
    """A small picture enlarged pixel by pixel."""
    times = -(-_LEAST // max(picture.size))
    size = (picture.width * times, picture.height * times)
    return picture if times == 1 else picture.resize(size, Image.Resampling.NEAREST)


def marked(picture: Image.Image, points: Mapping[str, tuple[float, float]]) -> Image.Image:
    """A picture with a ring around each point, given in its pixels, and the point's name, a letter or nothing."""
    large = enlarged(picture).copy()
    scale, radius = large.width / picture.width, max(large.size) / 18
    draw, font = ImageDraw.Draw(large), ImageFont.load_default(round(radius * 1.4))
    for name, point in points.items():
        x, y = point[0] * scale, point[1] * scale
        for colour, width in (((255, 255, 255), 0.4), ((220, 30, 60), 0.2)):
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, outline=colour, width=max(2, round(radius * width)))
        draw.text((x, y), name, PAPER, font, anchor="mm", stroke_width=3, stroke_fill=INK)
    return large


Cell = tuple[str, Image.Image]  # a caption and a picture


def sheet(title: str, rows: Sequence[tuple[str, Sequence[Cell]]]) -> Image.Image:
    """Pictures in rows, each below its caption.

    Args:
        title: A sentence above all, broken into lines.
        rows: A label, which may be empty, and captions with their pictures; long rows are broken into lines.
    """
    rows = [line for label, cells in rows for line in _abreast(label, cells)]
    width = max(len(cells) for _, cells in rows) * (CELL + GAP) + GAP
    above = _lines(title, width, TEXT + 4)
    labels = [_lines(label, width, TEXT) if label else [] for label, _ in rows]
    captions = [[_lines(caption, CELL + 2 * GAP, SMALL) for caption, _ in cells] for _, cells in rows]
    heads = [max(map(len, lines)) for lines in captions]
    height = LINE * (len(above) + sum(map(len, labels)) + sum(heads)) + len(rows) * (CELL + GAP) + 2 * GAP
    image = Image.new("RGB", (width, height), PAPER)
    top = _write(image, above, GAP, GAP, TEXT + 4)
    for label, head, lines, (_, cells) in zip(labels, heads, captions, rows, strict=True):
        top = _write(image, label, GAP, top, TEXT)
        for j, (caption, (_, picture)) in enumerate(zip(lines, cells, strict=True)):
            left = GAP + j * (CELL + GAP)
            _write(image, caption, left, top + (head - len(caption)) * LINE, SMALL)
            image.paste(_fitted(picture), (left, top + head * LINE))
        top += head * LINE + CELL + GAP
    return image


def _abreast(label: str, cells: Sequence[Cell]) -> list[tuple[str, Sequence[Cell]]]:
    """A row as lines of at most three pictures, or of two if it has four."""
    count = 2 if len(cells) == 4 else _ABREAST
    return [("" if i else label, cells[i : i + count]) for i in range(0, len(cells), count)]


def _fitted(picture: Image.Image) -> Image.Image:
    """A picture in a square cell, whole."""
    method = Image.Resampling.NEAREST if max(picture.size) < CELL else Image.Resampling.LANCZOS
    scale = CELL / max(picture.size)
    small = picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)), method)
    cell = Image.new("RGB", (CELL, CELL), (238, 238, 240))
    cell.paste(small, ((CELL - small.width) // 2, (CELL - small.height) // 2))
    return cell


def _write(image: Image.Image, lines: list[str], x: int, top: int, size: int) -> int:
    """Write lines, and give the place below them."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for i, text in enumerate(lines):
        draw.text((x, top + i * LINE + LINE // 2), text, INK, font, anchor="lm")
    return top + len(lines) * LINE


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
