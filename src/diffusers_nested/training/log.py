"""The log of a run: one JSON object per line."""

import json
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class RunLog:
    """``log.jsonl`` of a run.

    Args:
        path: The file.
        step: Steps taken so far; rows of later ones, from before a resumption, are removed, as they come again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        rows = [row for row in read_log(path) if row["step"] <= step]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def write(self, row: dict[str, float]) -> None:
        """Append a row, and report it."""
        logger.info("  ".join(f"{name} {value:.5g}" for name, value in row.items()))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log; a last one that was cut off in writing is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]
