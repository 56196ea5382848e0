"""Facts about an adapter, gathered without loading its weights."""

import posixpath
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import AdapterLoadError, DownloadError
from ..files import CONFIG_NAME, read_header
from ..files.listing import file_sizes, remote_parameters
from ..files.source import Source
from ..vision import Tower, locate_image_encoder
from .model import NestedAdapter


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        name: Its path, relative to the adapter's folder.
        size: Its size in bytes; None if the Hub does not provide it.
        parameters: Number of parameters by type, such as ``{"F16": 475_890}``; None if the header is unavailable.
    """

    name: str
    size: int | None
    parameters: dict[str, int] | None


@dataclass(frozen=True)
class Inspection:
    """What is known about an adapter.

    Attributes:
        adapter: The adapter on the meta device, with its ``config`` and tensors that take no memory.
        files: Its weight files, including those of an image encoder in the same source.
        image_encoder: The image encoder that would be loaded: its own ``image_encoder/``, the place of another one,
            or why none can be determined.
        is_complete: Whether ``files`` lists everything in the source, not just what has been downloaded.
    """

    adapter: NestedAdapter
    files: tuple[WeightFile, ...]
    image_encoder: str
    is_complete: bool


def inspect_adapter(source: Source) -> Inspection:
    """Read an adapter's configuration and the headers of its weight files.

    Args:
        source: Where it is. From a repository, only configurations and headers are downloaded.

    Raises:
        AdapterLoadError: It is not an adapter that this version can read, or the header of a file is damaged.
    """
    source, config_file = source.pinned(source.within(CONFIG_NAME))
    top = config_file.parents[source.within(CONFIG_NAME).count("/")]
    adapter = NestedAdapter.from_config_file(config_file, source.location)
    tower, image_encoder = _image_encoder(adapter, source)
    folders = [source.within("")] + ([tower.folder] if tower is not None and tower.source is source else [])
    if source.is_folder:
        return Inspection(adapter, _files_in(top, folders, source), image_encoder, is_complete=True)
    try:
        return Inspection(adapter, _files_on_hub(folders, source), image_encoder, is_complete=True)
    except DownloadError:  # the config came from the cache: list what else is cached
        return Inspection(adapter, _files_in(top, folders, source), image_encoder, is_complete=False)


def _image_encoder(adapter: NestedAdapter, source: Source) -> tuple[Tower | None, str]:
    """The tower and its description."""
    try:
        tower = locate_image_encoder(adapter.config, source)
    except AdapterLoadError as error:
        return None, f"cannot be determined: {error}"
    if tower is None:
        return None, "none: give embeddings"
    if tower.source is not source:
        return tower, tower.place
    is_beside = posixpath.dirname(tower.folder) == source.within("")
    whose = "its own" if is_beside else f"at the top of {source.location}"
    return tower, f"{posixpath.basename(tower.folder)}/, {whose}"


def _files_in(top: Path, folders: list[str], source: Source) -> tuple[WeightFile, ...]:
    paths = [path for folder in folders for path in sorted((top / folder).glob("*.safetensors"))]
    return tuple(_file_in(path, _shown_name(path.relative_to(top).as_posix(), source)) for path in paths)


def _file_in(path: Path, name: str) -> WeightFile:
    counts: Counter[str] = Counter()
    for tensor in read_header(path).values():
        counts[tensor.dtype] += tensor.numel
    return WeightFile(name, path.stat().st_size, dict(counts))


def _files_on_hub(folders: list[str], source: Source) -> tuple[WeightFile, ...]:
    sizes = {name: size for name, size in file_sizes(source).items() if name.endswith(".safetensors")}
    ours = [name for folder in folders for name in sorted(sizes) if posixpath.dirname(name) == folder]
    return tuple(WeightFile(_shown_name(name, source), sizes[name], remote_parameters(source, name)) for name in ours)


def _shown_name(name: str, source: Source) -> str:
    """A path relative to the top of the source, made relative to the adapter's folder."""
    return posixpath.relpath(name, source.subfolder or ".")
