"""Files that grow row by row: one JSON object per line, each there whole or not at all.

A process that is killed while it writes leaves a last line that is torn. It is left out in reading, and cut off before
the next row is appended; nothing that is whole is ever written anew in place.
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
    """The rows of a file, none if it does not exist; a torn last line is left out.

    Raises:
        NestedAdapterError: It is no regular file, or another line is not a JSON object; the message has its number.
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path) -> list[tuple[int, Row]]:
    """As ``read_jsonl``, each row with the number of its line.

    Raises:
        NestedAdapterError: As ``read_jsonl``.
    """
    _check_regular(path)
    data = path.read_bytes() if path.exists() else b""
    lines = data[: _whole(data)].split(b"\n")
    return [(number, parse_row(line, path, number)) for number, line in enumerate(lines, 1) if line.strip()]


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows, and see to it that they are on the disk; a torn last line is cut off first.

    Only one process may write to a file.

    Raises:
        NestedAdapterError: It is no regular file.
        OSError: The rows cannot be written, as on a full disk; the file is as it was.
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
    """Write a file of these rows, which takes the place of an earlier one when it is whole."""
    write_whole(path, _text(rows))


def _check_regular(path: Path) -> None:
    if not path.is_file() and (path.exists() or path.is_symlink()):
        raise NestedAdapterError(f"{path} is not a regular file. Move it away: rows are kept in a file of this name.")


def _tail(file: Any) -> bytes:
    """What stands after the last newline."""
    size, block = file.seek(0, os.SEEK_END), _BLOCK
    while True:
        start = file.seek(max(size - block, 0))
        data = file.read(size - start)
        if b"\n" in data or start == 0:
            return data[data.rfind(b"\n") + 1 :]
        block *= 2


def _whole(data: bytes) -> int:
    """How many of the bytes are whole lines, the last of which may lack its newline.

    No beginning of a JSON object is a JSON object itself.
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
            f"{path}, line {number}, is not JSON ({reason}): {line[:80]!r}. Mend the line, or delete it."
        ) from error
    if not isinstance(row, dict):
        raise NestedAdapterError(
            f"{path}, line {number}, is not a JSON object: {line[:80]!r}. Mend the line, or delete it."
        )
    return row


def _text(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
