"""The rows of results: one JSON object per picture, complete or absent whatever happens."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from ..files.jsonl import append_jsonl, numbered_rows, write_jsonl

Row = Mapping[str, Any]
Key = tuple[str, float, str, str, int]  # contestant, scale, subject, prompt, seed
_KEY = ("contestant", "scale", "subject", "prompt", "seed")
RESULTS = "results.jsonl"
_LARGE = 1e300  # larger ones are infinite, or integers beyond the range of floats


def key_of(row: Row) -> Key:
    """What identifies a row."""
    contestant, scale, subject, prompt, seed = (row[name] for name in _KEY)
    return contestant, float(scale), subject, prompt, seed


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file, without a last one that was cut off in writing.

    Raises:
        NestedAdapterError: A line is not a row of results; the message has its number.
    """
    rows = []
    for number, row in numbered_rows(path):
        wrong = [name for name, fits in _FIELDS.items() if name not in row or not fits(row[name])]
        if wrong:
            raise NestedAdapterError(
                f"{path}, line {number}, is not a row of results: {', '.join(wrong)} missing or of another type. "
                "Delete the line; resuming the comparison makes its picture again."
            )
        rows.append(row)
    return rows


class RowWriter:
    """Appends rows to this process's file.

    Args:
        folder: The comparison's folder.
        process: Number of the process.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self._path = folder / f"rows-{process:05d}.jsonl"

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows and sync them to the disk."""
        append_jsonl(self._path, rows)


def gather_rows(folder: Path, order: Sequence[Key]) -> None:
    """Merge the rows of all processes into one file, in the given order.

    If this is killed, every row is still in at least one file; rows in two files are the same.

    Args:
        folder: The comparison's folder; no process may be writing.
        order: The keys of all rows of the comparison, whether they exist yet or not.

    Raises:
        NestedAdapterError: A line in one of the files is not a row of results; nothing has changed then.
    """
    parts = sorted(folder.glob("rows-*.jsonl"))
    rows = {key_of(row): row for path in (folder / RESULTS, *parts) for row in read_rows(path)}
    write_jsonl(folder / RESULTS, (rows[key] for key in order if key in rows))
    for path in parts:
        path.unlink()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGE


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(score is None or _is_number(score) for score in value.values())


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "contestant": _is_text,
    "scale": _is_number,
    "subject": _is_text,
    "prompt": _is_text,
    "seed": _is_seed,
    "picture": lambda value: value is None or _is_text(value),
    "scores": _are_scores,
}
