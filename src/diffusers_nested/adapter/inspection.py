"""Facts about an adapter, gathered without loading its weights."""

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError, DownloadError, Remedy
from ..files import CONFIG_NAME, TensorInfo, read_header
from ..files.listing import file_sizes, remote_header
from ..files.source import Source
from ..vision import OWN_FOLDER, Tower, check_fits, each_tower, locate_image_encoder, numbered
from ..vision.several import each_of
from .locate import checked_name, find_ip_adapter, is_configured, no_file
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
        image_encoders: For each vision tower the one that would be loaded: its own ``image_encoder/``, the place of
            another one, or why none can be determined.
        is_complete: Whether ``files`` lists everything in the source, not just what has been downloaded.
    """

    adapter: NestedAdapter
    files: tuple[WeightFile, ...]
    image_encoders: tuple[str, ...]
    is_complete: bool

    @property
    def image_encoder(self) -> str:
        """The image encoders, in one line."""
        return "; ".join(self.image_encoders)


def inspect_adapter(source: Source, weight_name: str | None = None) -> Inspection:
    """Read an adapter's configuration and the headers of its weight files.

    Args:
        source: Where it is. From a repository, only configurations and headers are downloaded.
        weight_name: Name of the file of an IP-Adapter.

    Raises:
        AdapterLoadError: It is not an adapter that this version can read, or the header of a file is damaged.
    """
    if weight_name is not None:
        read = _read_ip_adapter(source, weight_name)
        if read is not None:
            return _inspect_ip_adapter(source, weight_name, *read)
    source, config_file = source.pinned(source.within(CONFIG_NAME), Remedy.CONFIG)
    top = config_file.parents[source.within(CONFIG_NAME).count("/")]
    adapter = NestedAdapter.from_config_file(config_file, source.location)
    towers, encoders = _image_encoders(adapter, source)
    folders = [source.within("")] + [tower.folder for tower in towers if tower is not None and tower.source is source]
    if source.is_folder:
        return Inspection(adapter, _files_in(top, folders, source), encoders, is_complete=True)
    try:
        return Inspection(adapter, _files_on_hub(folders, source), encoders, is_complete=True)
    except DownloadError:  # the config came from the cache: list what else is cached
        return Inspection(adapter, _files_in(top, folders, source), encoders, is_complete=False)


def _inspect_ip_adapter(
    source: Source, weight_name: str, size: int | None, header: Mapping[str, TensorInfo], is_complete: bool
) -> Inspection:
    adapter = NestedAdapter.from_ip_header(header, f"{source.location}: {weight_name}")
    _, encoders = _image_encoders(adapter, source)
    return Inspection(adapter, (WeightFile(weight_name, size, _count(header)),), encoders, is_complete)


def _read_ip_adapter(source: Source, weight_name: str) -> tuple[int | None, Mapping[str, TensorInfo], bool] | None:
    """Size and header of an IP-Adapter's file, and whether the source could be reached; None if it is not its file."""
    weight_name = checked_name(source, weight_name)
    name = source.within(weight_name)
    try:
        sizes = {} if source.is_folder or source.local_files_only else file_sizes(source)
        if sizes and name not in sizes:
            raise no_file(source, weight_name, sizes)
        config = source.find(source.within(CONFIG_NAME)) if source.within(CONFIG_NAME) in sizes else None
        if config is not None and is_configured(config):
            return None
        header = remote_header(source, name) if sizes else None
    except DownloadError:
        header, sizes = None, {}
    if header is not None:
        return sizes[name], header, True
    # in a folder, or in the cache
    found = find_ip_adapter(replace(source, local_files_only=True, force_download=False), weight_name)
    return None if found is None else (found[1].stat().st_size, read_header(found[1]), source.is_folder)


def _image_encoders(adapter: NestedAdapter, source: Source) -> tuple[list[Tower | None], tuple[str, ...]]:
    """The towers and their descriptions."""
    towers = each_tower(adapter.config)
    reads = each_of(adapter.image_features, len(towers))
    found = [
        _image_encoder(one, source, features, adapter.is_ip_adapter, number)
        for number, (one, features) in enumerate(zip(towers, reads, strict=True), 1)
    ]
    return [tower for tower, _ in found], tuple(text for _, text in found)


def _image_encoder(
    config: Mapping[str, Any], source: Source, features: str, is_ip_adapter: bool, number: int
) -> tuple[Tower | None, str]:
    """A tower and its description."""
    try:
        tower = locate_image_encoder(config, source, numbered(OWN_FOLDER, number), is_ip_adapter, number)
        if tower is not None and tower.source is source and is_ip_adapter:
            check_fits(config, tower, features)
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
    return WeightFile(name, path.stat().st_size, _count(read_header(path)))


def _count(header: Mapping[str, TensorInfo]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for tensor in header.values():
        counts[tensor.dtype] += tensor.numel
    return dict(counts)


def _files_on_hub(folders: list[str], source: Source) -> tuple[WeightFile, ...]:
    sizes = {name: size for name, size in file_sizes(source).items() if name.endswith(".safetensors")}
    ours = [name for folder in folders for name in sorted(sizes) if posixpath.dirname(name) == folder]
    headers = {name: remote_header(source, name) for name in ours}
    return tuple(
        WeightFile(_shown_name(name, source), sizes[name], None if header is None else _count(header))
        for name, header in headers.items()
    )


def _shown_name(name: str, source: Source) -> str:
    """A path relative to the top of the source, made relative to the adapter's folder."""
    return posixpath.relpath(name, source.subfolder or ".")
