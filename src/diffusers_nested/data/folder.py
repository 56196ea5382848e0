"""A training set in a folder, described by a ``metadata.jsonl``."""

from pathlib import Path

from torch.utils.data import Dataset

from ..errors import NestedAdapterError
from ..files.jsonl import Row, parse_row
from .lines import read_lines
from .rows import check_row
from .triplets import Triplet

METADATA = "metadata.jsonl"


class TripletFolder(Dataset[Triplet]):
    """Triplets from a folder, laid out like an ``imagefolder`` of datasets.

    ``metadata.jsonl`` holds one JSON object per line: ``{"input_file_name": "crops/1.png", "file_name":
    "photos/1.png", "text": "a photo of a person"}``, with the target under ``file_name`` and paths relative to
    the folder. A row with several subjects has ``"subjects": [{"word": "person", "file_name": "crops/1.png"}, …]``
    in place of ``input_file_name``.

    Args:
        root: The folder.

    Raises:
        NestedAdapterError: The folder or its metadata are missing, a line is not as described, or a file that a line
            names does not exist.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        metadata = self.root / METADATA
        if not metadata.is_file():
            raise NestedAdapterError(
                f"{metadata} does not exist. A training folder needs one, with a line per example: "
                '{"input_file_name": ..., "file_name": ..., "text": ...}.'
            )
        self._triplets = [self._triplet(parse_row(line, metadata, n), n) for n, line in read_lines(metadata)]
        if not self._triplets:
            raise NestedAdapterError(f"{metadata} holds no examples.")

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self._triplets)

    def __getitem__(self, index: int, /) -> Triplet:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One triplet, its images as paths."""
        return self._triplets[index]

    def _triplet(self, row: Row, number: int) -> Triplet:
        where = f"{self.root / METADATA}, line {number}"
        check_row(row, where)
        target = self._file(row["file_name"], "file_name", where)
        if not row.get("subjects"):
            return Triplet(self._file(row["input_file_name"], "input_file_name", where), row["text"], target)
        named = [(one["word"], self._file(one["file_name"], "subjects", where)) for one in row["subjects"]]
        return Triplet(dict(named), row["text"], target)

    def _file(self, name: str, column: str, where: str) -> Path:
        path = self.root / name
        if not path.is_file():
            fault = "is not a file" if path.exists() else "does not exist"
            raise NestedAdapterError(f"{where}: {column} names {path}, which {fault}.")
        return path
