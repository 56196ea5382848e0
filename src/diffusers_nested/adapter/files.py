"""The files of an adapter: found in a folder or a repository, and checked before a weight is read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFETENSORS_WEIGHTS_NAME,
    extract_commit_hash,
)

from ..compat import hub_file, with_variant
from ..errors import AdapterLoadError
from ..files import (
    TensorInfo,
    check_repository,
    check_tensors,
    file_in,
    is_folder,
    read_header,
    read_index,
    read_json,
    shown,
)
from ..files.limits import MAX_CONFIG_BYTES
from .checks import check_loaded_config


@dataclass(frozen=True)
class Origin:
    """Where an adapter was loaded from: a folder, or a commit of a repository.

    Attributes:
        source: The folder or the repository.
        subfolder: Folder within it.
        revision: The commit; None for a folder.
        is_folder: Whether it is a folder.
    """

    source: str
    subfolder: str | None
    revision: str | None
    is_folder: bool


@dataclass(frozen=True)
class Location:
    """A folder, or a folder of a repository of the Hub, and how to reach it.

    Args:
        source: The folder or the repository.
        subfolder: Folder within it.
        hub: Keywords of a download: ``revision``, ``token``, ``cache_dir``, …; without meaning for a folder.
    """

    source: str
    subfolder: str | None
    hub: Mapping[str, Any]

    def find(self, name: str) -> Path:
        """Path of a file, downloaded if need be.

        Raises:
            OSError: There is none, or the Hub cannot be reached.
            AdapterLoadError: It is a link that leaves the folder, or the source is no folder and can be no repository.
        """
        if is_folder(self.source):
            return file_in(Path(self.source, self.subfolder or ""), name)
        check_repository(self.source)
        path = hub_file(self.source, name, self.subfolder, self.hub)
        return file_in(path.parent, path.name)

    def of_revision(self, path: Path) -> "Location":
        """The same at the commit that a file was downloaded from, so that all files are of one commit."""
        commit = None if is_folder(self.source) else extract_commit_hash(str(path))
        return self if commit is None else Location(self.source, self.subfolder, {**self.hub, "revision": commit})

    @property
    def origin(self) -> Origin:
        """It without the ways to reach it, such as a token."""
        here = is_folder(self.source)
        return Origin(self.source, self.subfolder, None if here else self.hub.get("revision"), here)


def read_config(path: Path, kind: str, settings: Collection[str], source: str) -> dict[str, Any]:
    """The settings of an adapter.

    Args:
        path: A config.json.
        kind: The class that it must name.
        settings: Names of the settings that the class knows.
        source: Where it comes from, for messages.

    Raises:
        AdapterLoadError: It is not that of an adapter which this version reads.
    """
    config = read_json(path, MAX_CONFIG_BYTES)
    check_loaded_config(config, kind, source, settings)
    # what diffusers keeps for itself in a config (names that begin with _) is not taken from a stranger
    return {name: value for name, value in config.items() if not name.startswith("_")}


def find_weights(location: Location, weight_name: str | None, variant: str | None) -> dict[Path, list[str] | None]:
    """The files of the weights, each with the tensors that an index says it holds, or None if there is no index.

    Raises:
        OSError: There are none.
        AdapterLoadError: The index is not valid.
    """
    name = weight_name or with_variant(SAFETENSORS_WEIGHTS_NAME, variant)
    try:
        return {location.find(name): None}
    except OSError as error:
        if weight_name is not None:
            raise
        missing = error
    try:
        index = location.find(with_variant(SAFE_WEIGHTS_INDEX_NAME, variant))
    except OSError:
        raise missing from None
    return {location.find(shard): tensors for shard, tensors in read_index(index).items()}


def check_weights(files: Mapping[Path, list[str] | None], expected: Mapping[str, Sequence[int]], source: str) -> None:
    """Raise unless the files hold exactly the expected tensors; only their headers are read.

    Raises:
        AdapterLoadError: A file is damaged, or a tensor is missing, left over, of another shape or no float.
    """
    found: dict[str, TensorInfo] = {}
    for path, listed in files.items():
        header = read_header(path)
        if listed is not None and header.keys() != set(listed):
            name = min(header.keys() ^ set(listed))
            raise AdapterLoadError(
                f"{path} does not hold the tensors that the index says, such as {shown(name)}. The files are damaged "
                "or of two different adapters; download them again."
            )
        found |= header
    check_tensors(found, expected, source)
