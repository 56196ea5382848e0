"""The log of a run: one JSON object per line."""

import logging
from pathlib import Path

from ..errors import NestedAdapterError
from ..files.jsonl import append_jsonl, read_jsonl, write_jsonl

logger = logging.getLogger(__name__)


class RunLog:
    """``log.jsonl`` of a run.

    Args:
        path: The file.
        step: Steps taken so far; rows of later steps, which a resumed run repeats, are removed from the file.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        rows = read_jsonl(path)
        kept = [row for row in rows if row.get("step", 0) <= step]
        if len(kept) < len(rows):
            write_jsonl(path, kept)

    def write(self, row: dict[str, float]) -> None:
        """Append a row and log it."""
        logger.info("  ".join(f"{name} {value:.5g}" for name, value in row.items()))
        try:
            append_jsonl(self._path, [row])
        except OSError as error:
            raise NestedAdapterError(f"Cannot write {self._path}: {error}. Check space and permissions.") from error


def read_log(path: str | Path) -> list[dict[str, float]]:
    """The rows of a log, without a last one that was cut off in writing.

    Raises:
        NestedAdapterError: Another line is damaged; it is named.
    """
    return read_jsonl(Path(path))
