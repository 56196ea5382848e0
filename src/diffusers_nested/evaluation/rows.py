"""The rows of results: one JSON object per picture, whole or absent, whatever happens on the way."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Key = tuple[str, float, str, str, int]  # contestant, scale, subject, prompt, seed
_KEY = ("contestant", "scale", "subject", "prompt", "seed")
RESULTS = "results.jsonl"


def key_of(row: Row) -> Key:
    """What tells a row from the others."""
    contestant, scale, subject, prompt, seed = (row[name] for name in _KEY)
    return contestant, float(scale), subject, prompt, seed


def read_rows(path: Path) -> list[Row]:
    """The whole rows of a file; a last one that was cut off in writing is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


class RowWriter:
    """Appends rows to a file of this process's own.

    Args:
        folder: Of the comparison.
        process: Number of the process.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self._path = folder / f"rows-{process:05d}.jsonl"

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows, and see to it that they are on the disk."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(_line(row) for row in rows))
            file.flush()
            os.fsync(file.fileno())


def gather_rows(folder: Path, order: Sequence[Key]) -> None:
    """Bring the rows of all processes into one file, in the given order.

    Whoever is killed in here leaves the rows in at least one file; rows that are in two are the same.

    Args:
        folder: Of the comparison; no process may be writing.
        order: The keys of all rows that belong to the comparison, as far as they exist.
    """
    parts = sorted(folder.glob("rows-*.jsonl"))
    rows = {key_of(row): row for path in (folder / RESULTS, *parts) for row in read_rows(path)}
    write_atomically(folder / RESULTS, "".join(_line(rows[key]) for key in order if key in rows))
    for path in parts:
        path.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
