"""Captions of photos, from files beside them or from one list."""

import csv
import io
import logging
import posixpath
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from ..data import read_lines
from ..errors import NestedAdapterError
from ..files.jsonl import parse_row

_COLUMNS = ("file_name", "text")
logger = logging.getLogger(__name__)


def read_captions(source: Path, names: Collection[str], listed: Path | None) -> dict[str, str]:
    """The captions that exist, by the photo's path within the folder.

    Args:
        source: The folder.
        names: The photos' paths within it.
        listed: A .csv or .jsonl with the columns ``file_name`` and ``text``; without one, ``photo.txt`` or
            ``photo.jpg.txt`` beside ``photo.jpg`` is read.

    Raises:
        NestedAdapterError: The list is missing, not as described, names a photo twice, or names none that is there;
            or a text is not in UTF-8.
    """
    if listed is None:
        return {name: text for name in names if (text := _beside(source / name)) is not None}
    if not listed.is_file() or listed.suffix.lower() not in (".csv", ".jsonl"):
        raise NestedAdapterError(f"--captions is {str(listed)!r}, expected a file that ends in .csv or .jsonl.")
    found = _by_name(_rows(listed), listed)
    unknown = sorted(found.keys() - {_normal(name) for name in names})
    if len(unknown) == len(found):
        example = f", such as {unknown[0]!r}" if unknown else ""
        raise NestedAdapterError(
            f"--captions {listed} names no photo of {source}{example}. Its column file_name must hold paths within "
            "that folder."
        )
    if unknown:
        logger.info("%s names %d files that are no photos of %s: %r …", listed, len(unknown), source, unknown[0])
    return {name: found[_normal(name)] for name in names if _normal(name) in found}


def _normal(name: str) -> str:
    """A path in one spelling: file systems and tables differ in that of letters with accents."""
    return unicodedata.normalize("NFC", posixpath.normpath(name))


def _beside(photo: Path) -> str | None:
    """The text beside a photo, its lines joined; None if there is no file."""
    for file in (photo.with_name(f"{photo.name}.txt"), photo.with_suffix(".txt")):
        if file.is_file():
            return " ".join(text for _, text in read_lines(file))
    return None


def _rows(listed: Path) -> Iterable[tuple[int, dict]]:
    if listed.suffix.lower() == ".jsonl":
        return [(number, parse_row(line, listed, number)) for number, line in read_lines(listed)]
    try:
        text = listed.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise NestedAdapterError(f"{listed} is not in UTF-8: {error}. Save the file as UTF-8.") from error
    except csv.Error as error:
        raise NestedAdapterError(
            f"{listed} is not a table of comma-separated values: {error}. Are all quotes closed?"
        ) from error


def _by_name(rows: Iterable[tuple[int, dict]], listed: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, row in rows:
        name, text = (row.get(column) for column in _COLUMNS)
        where = f"{listed}, line {number}"
        if None in row:  # where the table of comma-separated values keeps what is too much
            raise NestedAdapterError(
                f"{where}, has more columns than the first line: {row[None]!r:.80}. Put a caption with commas in "
                "double quotes."
            )
        if not isinstance(name, str) or not isinstance(text, str):
            raise NestedAdapterError(f"{where}, lacks {' or '.join(_COLUMNS)} as text, got {row!r:.80}.")
        name = _normal(name)
        if name in found:
            raise NestedAdapterError(f"{where}, names {name!r} a second time. Keep one of its captions.")
        found[name] = " ".join(text.split())
    return found
