"""The index of weights that are split into several files."""

import re
from pathlib import Path

from ..errors import AdapterLoadError
from .json_files import read_json, shown
from .limits import MAX_INDEX_BYTES, MAX_SHARDS

_PLAIN_NAME = re.compile(r"\w[\w.-]{0,250}", re.ASCII)


def read_index(path: Path) -> dict[str, list[str]]:
    """Shard -> names of its tensors, from the index of weights that are split into several files.

    Raises:
        AdapterLoadError: It is not an index, or it names something other than a .safetensors file in its own folder.
    """
    index = read_json(path, MAX_INDEX_BYTES)
    entries = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise AdapterLoadError(f"{path} has no weight_map from tensors to files. Download it again.")
    shards: dict[str, list[str]] = {}
    for tensor, file in entries.items():
        if not isinstance(file, str) or not _PLAIN_NAME.fullmatch(file) or not file.endswith(".safetensors"):
            raise AdapterLoadError(
                f"{path} names the file {shown(file)}. Shards must have plain names of .safetensors files in the same "
                "folder; use weights that save_pretrained has written."
            )
        shards.setdefault(file, []).append(tensor)
    if len(shards) > MAX_SHARDS:
        raise AdapterLoadError(
            f"{path} names {len(shards)} files, more than the {MAX_SHARDS} allowed. Use fewer shards."
        )
    return shards
