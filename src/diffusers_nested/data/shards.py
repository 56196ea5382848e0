"""A training set in shards: archives of many examples, and an index of what they hold.

The archives are those of webdataset: the files of an example have one name up to the first dot. ``index.json`` lists
the shards, ``examples.jsonl`` where each picture lies. So captions are read without opening a shard, and a run that
resumes begins at any example.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ..errors import NestedAdapterError
from ..files.json_files import parse_json
from ..files.jsonl import Row, parse_row
from .lines import read_lines
from .packed import PackedPicture
from .triplets import Triplet

INDEX, EXAMPLES = "index.json", "examples.jsonl"
FORMAT = 1
_AGAIN = "Copy it again, or write the shards anew."


class ShardFolder(Dataset[Triplet]):
    """Triplets from shards, as ``diffusers-nested prepare shards`` writes them.

    Args:
        root: The folder.

    Attributes:
        counts: Examples in each shard, in their order.
        checksums: SHA-256 of each shard.

    Raises:
        NestedAdapterError: The index or a shard is missing, cut off or of another set.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        shards = _read_index(self.root)
        self._shards = [_checked(self.root, shard) for shard in shards]
        self.counts = [shard["examples"] for shard in shards]
        self.checksums = [shard["sha256"] for shard in shards]
        file = self.root / EXAMPLES
        lines = read_lines(file) if file.is_file() else []
        if len(lines) != sum(self.counts):
            raise NestedAdapterError(
                f"{file} has {len(lines)} examples, but the shards of {INDEX} hold {sum(self.counts)}. {_AGAIN}"
            )
        self._rows = [(parse_row(line, file, number), number) for number, line in lines]
        expected = [shard for shard, count in enumerate(self.counts) for _ in range(count)]
        for (row, number), shard in zip(self._rows, expected, strict=True):
            if row.get("shard") != shard:
                raise NestedAdapterError(
                    f"{file}, line {number}, has an example of shard {row.get('shard')!r}, but by {INDEX} it is of "
                    f"shard {shard}. {_AGAIN}"
                )

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self._rows)

    def __getitem__(self, index: int, /) -> Triplet:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One triplet, its images where they lie."""
        row, number = self._rows[index]
        try:
            shard = self._shards[row["shard"]]
            photos = {word: _packed(shard, where) for word, where in row["photos"]}
            return Triplet(
                photos[None] if list(photos) == [None] else photos, row["text"], _packed(shard, row["target"])
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise NestedAdapterError(
                f"{self.root / EXAMPLES}, line {number}, is not that of an example: {row!r:.80}. {_AGAIN}"
            ) from error


def is_shard_folder(root: Path) -> bool:
    """Whether a folder holds shards rather than pictures."""
    return (root / INDEX).is_file() or (not (root / "metadata.jsonl").is_file() and any(root.glob("*.tar")))


def shard_name(number: int) -> str:
    """Name of a shard's file."""
    return f"{number:05d}.tar"


def _packed(shard: Path, where: Mapping[str, Any]) -> PackedPicture:
    height, width = where["size"]
    return PackedPicture(shard, where["name"], where["offset"], where["bytes"], (height, width))


def _read_index(root: Path) -> list[Row]:
    file = root / INDEX
    if not file.is_file():
        raise NestedAdapterError(
            f"{root} holds shards but no {INDEX}, which is written last. Let `diffusers-nested prepare shards` go on, "
            "with the same arguments."
        )
    index = parse_json(file.read_bytes(), str(file))
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        found = index.get("format") if isinstance(index, dict) else None
        raise NestedAdapterError(f"{file} is of format {found!r}, expected {FORMAT}. Update this package.")
    shards = index.get("shards")
    kinds = {"name": str, "examples": int, "bytes": int, "sha256": str}
    if (
        not isinstance(shards, list)
        or not shards
        or not all(isinstance(one, dict) and _is_like(one, kinds) for one in shards)
    ):
        raise NestedAdapterError(f"{file} does not list shards with {', '.join(kinds)}. {_AGAIN}")
    return shards


def _is_like(shard: Row, kinds: Mapping[str, type]) -> bool:
    return all(isinstance(shard.get(name), kind) for name, kind in kinds.items())


def _checked(root: Path, shard: Row) -> Path:
    path = root / Path(shard["name"]).name
    if not path.is_file():
        raise NestedAdapterError(f"The shard {path} is missing. {_AGAIN}")
    size = path.stat().st_size
    if size != shard["bytes"]:
        raise NestedAdapterError(f"The shard {path} has {size} bytes, expected {shard['bytes']}. {_AGAIN}")
    return path
