"""Opens a training set of any form, which is told by its content."""

from pathlib import Path

from .folder import TripletFolder
from .shards import ShardFolder, is_shard_folder


def open_training_set(root: str | Path) -> TripletFolder | ShardFolder:
    """A training set in a folder: shards with an index, or pictures with a ``metadata.jsonl``.

    Raises:
        NestedAdapterError: It is neither, or something in it is missing.
    """
    return ShardFolder(root) if is_shard_folder(Path(root)) else TripletFolder(root)
