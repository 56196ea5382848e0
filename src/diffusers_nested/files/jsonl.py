"""Files that grow row by row: one JSON object per line.

A process killed while writing leaves an incomplete last line. Reading skips it, and appending cuts it off first;
complete rows are never rewritten in place.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .write_whole import sync_folder, write_synced, write_whole

Row = dict[str, Any]
_BLOCK = 1 << 16  # bytes


def read_jsonl(path: Path) -> list[Row]:
    """The rows of a file, without an incomplete last line; an empty list if the file does not exist.

    Raises:
        NestedAdapterError: It is not a regular file, or a line other than the last is not a JSON object; the message
            gives the line's number.
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path) -> list[tuple[int, Row]]:
    """Like ``read_jsonl``, with the line number of each row.

    Raises:
        NestedAdapterError: As ``read_jsonl``.
    """
    _check_regular(path)
    data = path.read_bytes() if path.exists() else b""
    lines = data[: _whole(data)].split(b"\n")
    return [(number, parse_row(line, path, number)) for number, line in enumerate(lines, 1) if line.strip()]


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows and flush them to the disk, after removing an incomplete last line.

    Only one process may write to a file at a time.

    Raises:
        NestedAdapterError: It is not a regular file.
        OSError: The rows cannot be written, for example on a full disk; the file is unchanged.
    """
    text = _text(rows).encode()
    _check_regular(path)
    with path.open("r+b" if path.exists() else "w+b", buffering=0) as file:
        tail = _tail(file)
        end = file.seek(0, os.SEEK_END) - len(tail) + _whole(tail)
        file.truncate(end)
        file.seek(end)
        try:
            write_synced(file, b"\n" + text if tail and _whole(tail) else text)
        except OSError:
            file.truncate(end)
            raise
    sync_folder(path.parent)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write these rows as a whole new file, replacing an earlier one only once it is complete."""
    write_whole(path, _text(rows))


def _check_regular(path: Path) -> None:
    if not path.is_file() and (path.exists() or path.is_symlink()):
        raise NestedAdapterError(
            f"{path} is not a regular file. Move it away: rows are written to a file of this name."
        )


def _tail(file: Any) -> bytes:
    """Everything after the last newline."""
    size, block = file.seek(0, os.SEEK_END), _BLOCK
    while True:
        start = file.seek(max(size - block, 0))
        data = file.read(size - start)
        if b"\n" in data or start == 0:
            return data[data.rfind(b"\n") + 1 :]
        block *= 2


def _whole(data: bytes) -> int:
    """Number of bytes that belong to complete lines; the last one may lack its newline.

    This is unambiguous: no proper prefix of a JSON object is itself a JSON object.
    """
    end = data.rfind(b"\n") + 1
    try:
        return len(data) if isinstance(json.loads(data[end:]), dict) else end
    except (ValueError, RecursionError):
        return end


def parse_row(line: str | bytes, path: Path, number: int) -> Row:
    """One line of a file.

    Raises:
        NestedAdapterError: It is not a JSON object; the message has the file and the line's number.
    """
    try:
        row = json.loads(line.decode() if isinstance(line, bytes) else line)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise NestedAdapterError(
            f"{path}, line {number}, is not JSON ({reason}): {line[:80]!r}. Fix the line, or delete it."
        ) from error
    if not isinstance(row, dict):
        raise NestedAdapterError(
            f"{path}, line {number}, is not a JSON object: {line[:80]!r}. Fix the line, or delete it."
        )
    return row


def _text(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
