"""Captions of photos, from files beside them or from one list."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..data import read_lines
from ..errors import NestedAdapterError
from ..files.jsonl import parse_row

_COLUMNS = ("file_name", "text")


def read_captions(source: Path, names: Sequence[str], listed: Path | None) -> dict[str, str]:
    """The captions that exist, by the photo's path within the folder.

    Args:
        source: The folder.
        names: The photos' paths within it.
        listed: A .csv or .jsonl with the columns ``file_name`` and ``text``; without one, ``photo.txt`` beside
            ``photo.jpg`` is read.

    Raises:
        NestedAdapterError: The list is missing, not as described, or names a photo twice or one that is not there; or
            a text is not in UTF-8.
    """
    if listed is None:
        files = {name: (source / name).with_suffix(".txt") for name in names}
        return {name: " ".join(t for _, t in read_lines(file)) for name, file in files.items() if file.is_file()}
    if not listed.is_file() or listed.suffix.lower() not in (".csv", ".jsonl"):
        raise NestedAdapterError(f"--captions is {str(listed)!r}, expected a file that ends in .csv or .jsonl.")
    return _checked(_pairs(listed), set(names), listed)


def _pairs(listed: Path) -> Iterable[tuple[int, dict]]:
    if listed.suffix.lower() == ".jsonl":
        return [(number, parse_row(line, listed, number)) for number, line in read_lines(listed)]
    try:
        text = listed.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NestedAdapterError(f"{listed} is not in UTF-8: {error}. Save the file as UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    return [(reader.line_num, row) for row in reader]


def _checked(rows: Iterable[tuple[int, dict]], names: set[str], listed: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, row in rows:
        name, text = (row.get(column) for column in _COLUMNS)
        where = f"{listed}, line {number}"
        if not isinstance(name, str) or not isinstance(text, str):
            raise NestedAdapterError(f"{where}, lacks {' or '.join(_COLUMNS)} as text, got {row!r:.80}.")
        if name in found:
            raise NestedAdapterError(f"{where}, names {name!r} a second time. Keep one of its captions.")
        if name not in names:
            raise NestedAdapterError(f"{where}, names {name!r}, which is no photo of the folder. Remove the line.")
        found[name] = text.strip()
    return found
