"""The folder of a training set while it is being made, by one or several processes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..data.folder import METADATA
from ..errors import NestedAdapterError
from ..files.json_files import parse_json, shown
from ..files.jsonl import Row, append_jsonl, read_jsonl
from ..files.lock import held
from ..files.write_whole import write_whole
from .names import FILES, INPUTS, TARGETS, WORK

REJECTS, SHEET = "rejects.jsonl", "contact-sheet.png"
_SETTINGS, _ROWS = "settings.json", "rows.jsonl"
_PATIENCE = 600.0  # seconds that a process waits for another one that starts, or writes the lists


class WorkFolder:
    """Remembers which photos are done, in a file per process below ``OUT/.prepare``.

    Args:
        output: The folder of the training set.
        index: Number of this process.
        count: How many there are.
    """

    def __init__(self, output: Path, index: int, count: int) -> None:
        self._output = output
        self._root = output / WORK
        self._own = self._root / f"{index}-of-{count}"
        self._count = count

    @contextmanager
    def opened(self, definition: Mapping[str, Any]) -> Iterator[None]:
        """Take this process's part of the work; it is given back at the end.

        Args:
            definition: Everything that the result depends on, apart from the photos.

        Raises:
            NestedAdapterError: The folder holds something else, or was begun with another definition; or this part,
                or those of another number of processes, are at work.
        """
        self._check_ours()
        with ExitStack() as stack:
            with self.alone():
                self._check_definition(definition)
                self._check_count()
                stack.enter_context(held(self._own, "preparation", "OUT"))
                write_whole(self._root / _SETTINGS, _text(definition))
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other process starts or writes what there is only one of."""
        with held(self._root, "preparation", "OUT", _PATIENCE):
            yield

    def add(self, row: Row) -> None:
        """Remember that a photo is done."""
        append_jsonl(self._own / _ROWS, [row])

    def rows(self) -> dict[str, Row]:
        """The rows of all processes, by the photo's name; of several rows of a photo, any."""
        return {row["photo"]: row for row in self._all_rows()}

    def made(self) -> set[str]:
        """The files of all examples that were ever made, within the training set."""
        return {example[column] for row in self._all_rows() for example in row["examples"] for column in FILES}

    def _all_rows(self) -> list[Row]:
        return [row for file in sorted(self._root.glob(f"*-of-*/{_ROWS}")) for row in read_jsonl(file)]

    def _check_ours(self) -> None:
        if self._root.is_dir():
            return
        found = [name for name in (METADATA, REJECTS, SHEET, INPUTS, TARGETS) if (self._output / name).exists()]
        if found or (self._output.exists() and not self._output.is_dir()):
            what = f"already holds {', '.join(found)}, but no notes to go on from" if found else "is a file"
            raise NestedAdapterError(f"OUT {self._output} {what}. Name another folder.")

    def _check_definition(self, definition: Mapping[str, Any]) -> None:
        file = self._root / _SETTINGS
        if not file.is_file():
            return
        earlier = parse_json(file.read_bytes(), str(file))
        names = [*definition, *(name for name in earlier if name not in definition)]
        changed = [name for name in names if earlier.get(name) != definition.get(name)]
        if changed:
            listed = "; ".join(
                f"{name} was {shown(earlier.get(name))} and is now {shown(definition.get(name))}" for name in changed
            )
            raise NestedAdapterError(
                f"OUT {self._output} was begun with other settings: {listed}. Give the earlier ones to go on, or name "
                "another folder."
            )

    def _check_count(self) -> None:
        """Raise if as many processes as another number are at work: they share the photos in another way."""
        for folder in sorted(self._root.glob("*-of-*")):
            if not folder.name.endswith(f"-of-{self._count}"):
                with held(folder, "preparation, one of another number of processes,", "OUT"):
                    pass


def _text(definition: Mapping[str, Any]) -> str:
    return json.dumps(definition, ensure_ascii=False, indent=1) + "\n"
