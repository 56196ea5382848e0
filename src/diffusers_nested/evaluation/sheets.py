"""Contact sheets of a subject's pictures: a row per prompt, a column per contestant and scale."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..images.thumbnails import thumbnail, wrapped
from .contestants import Plain
from .pictures import load, photo_names, picture_name, save
from .prepare import Comparison
from .references import Reference

_CELL, _GAP, _LABEL, _TOP = 128, 6, 220, 46
_INK, _PALE, _PAPER = (40, 40, 48), (110, 110, 120), (255, 255, 255)


def write_sheets(folder: Path, comparison: Comparison) -> None:
    """Write ``sheets/<subject>.png`` for every subject, with the pictures of the first seed."""
    for reference in comparison.references:
        save(folder / "sheets" / f"{reference.name}.png", _sheet(folder, comparison, reference))


def _sheet(folder: Path, comparison: Comparison, reference: Reference) -> Image.Image:
    shots = [shot for shot in comparison.shots if shot.reference is reference]
    shots = [shot for shot in shots if shot.seed == shots[0].seed]
    columns = [(one, scale) for one in comparison.contestants for scale in one.scales]
    photos = [name for names in photo_names(reference).values() for name in names]
    size = (
        _LABEL + max(len(columns), len(photos)) * (_CELL + _GAP) + _GAP,
        _TOP + (len(shots) + 1) * (_CELL + _GAP) + 22,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    _row(sheet, 12, f"{reference.name}\n{len(photos)} photo{'s' * (len(photos) > 1)}", [folder / n for n in photos])
    top = 12 + _CELL + _GAP
    for j, (contestant, scale) in enumerate(columns):
        heading = contestant.name + ("" if isinstance(contestant, Plain) else f"\n{scale:g}")
        where = (_LABEL + j * (_CELL + _GAP) + _CELL // 2, top + 16)
        draw.multiline_text(where, heading, _INK, ImageFont.load_default(12), anchor="mm", align="center")
    for i, shot in enumerate(shots):
        files = [folder / picture_name(contestant, scale, shot) for contestant, scale in columns]
        _row(sheet, top + 34 + i * (_CELL + _GAP), shot.prompt, files)
    return sheet


def _row(sheet: Image.Image, top: int, label: str, files: Sequence[Path]) -> None:
    draw = ImageDraw.Draw(sheet)
    text = "\n".join(wrapped(line, _LABEL - 24) for line in label.split("\n"))
    draw.multiline_text((12, top + _CELL // 2), text, _INK, ImageFont.load_default(13), anchor="lm", spacing=4)
    for j, file in enumerate(files):
        sheet.paste(thumbnail(load(file), _CELL), (_LABEL + j * (_CELL + _GAP), top))
