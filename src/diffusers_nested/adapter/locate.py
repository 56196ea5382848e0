"""Where an adapter's files are: a folder or repository of our format, or the file of an IP-Adapter."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import Any

from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME

from ..errors import AdapterLoadError, DownloadError
from ..files import CONFIG_NAME, check_repository, is_file, is_folder, names_shown, plain_path, read_json, shown
from ..files.damage import damaged_downloads
from ..files.headers import read_header
from ..files.limits import MAX_CONFIG_BYTES
from ..files.source import Source
from ..files.weights import Files, find_weights
from .ip_adapter import is_ip_adapter

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SAFETENSORS = ".safetensors"


def source_of(
    location: str | PathLike[str], subfolder: str | None = None, weight_name: str | None = None, **hub: Any
) -> tuple[Source, str | None]:
    """Where an adapter is, and the name of its file.

    Args:
        location: A folder, a repository, or a local file of an IP-Adapter.
        subfolder: Folder within it.
        weight_name: Name of the file.
        **hub: How to access a repository; see ``Source``.

    Raises:
        AdapterLoadError: The location is another file, or a file beside a subfolder or a name of a file.
    """
    name, path = str(location), Path(str(location))
    if not is_file(path):
        return Source(name, subfolder, **hub), weight_name
    _check_no_pickle(path.name, f"{path}: ")
    if path.suffix != _SAFETENSORS or not is_ip_adapter(read_header(path)):
        check_repository(name)  # says that it is a file, and what to give
    if subfolder is not None or weight_name is not None:
        what, value = ("subfolder", subfolder) if weight_name is None else ("weight_name", weight_name)
        raise AdapterLoadError(f"{path} is the file itself, and {what} is {shown(value)}. Leave out {what}.")
    return Source(str(path.parent), **hub), path.name


def named_source(name: str | PathLike[str]) -> tuple[Source, str | None]:
    """Like ``source_of``, also for ``user/repo/sub/folder`` and ``user/repo/sub/folder/file.safetensors``.

    Raises:
        AdapterLoadError: It is a file, but not an IP-Adapter's.
    """
    parts = fspath(name).split("/")
    if is_folder(name) or is_file(name) or len(parts) < 3 or not all(parts) or parts[0] in (".", ".."):
        return source_of(name)
    is_one_file = Path(parts[-1]).suffix in (_SAFETENSORS, *_PICKLES)
    *folders, last = parts[2:] if is_one_file else [*parts[2:], None]
    return Source("/".join(parts[:2]), "/".join(filter(None, folders)) or None), last


def find_ip_adapter(source: Source, weight_name: str | None, variant: str | None = None) -> tuple[Source, Path] | None:
    """The file of an IP-Adapter; None if the source is an adapter of ours.

    In a repository with a configuration, that decides, and no weights are downloaded; else the file's content does.

    Args:
        source: Where it may be.
        weight_name: Name of the file.
        variant: Must be None.

    Returns:
        The source at a commit, and the local path of the file.

    Raises:
        AdapterLoadError: There is no such file, it is a pickle, it is no adapter's, or there are both a name and a
            variant.
    """
    if weight_name is None:
        return None
    name = checked_name(source, weight_name, variant)
    filename = source.within(name)
    try:
        config = source.find(source.within(CONFIG_NAME))
    except DownloadError:  # unknown whether there is one
        path = _cached(source, filename)
        if path is None or not is_ip_adapter(read_header(path)):
            raise
        return source.at_commit_of(path, filename), path
    if config is not None and not source.is_folder and is_configured(config):
        return None
    path = source.find(filename)
    if path is None:
        raise no_file(source, name)
    with damaged_downloads(path.parent):
        header = read_header(path)
    if is_ip_adapter(header):
        return source.at_commit_of(path, filename), path
    if config is None:
        raise AdapterLoadError(
            f"{source.location}: {shown(name)} is not the file of an IP-Adapter: its tensors are "
            f"{names_shown(header)}, expected names that begin with image_proj and ip_adapter. An adapter of "
            "diffusers-nested needs its config.json beside it."
        )
    return None


def find_adapter_weights(source: Source, weight_name: str | None, variant: str | None) -> Files:
    """Locate an adapter's weights, and download them if necessary; see ``find_weights``.

    Args:
        source: Where the adapter is.
        weight_name: Name of the file, if it differs from the one that diffusers writes.
        variant: Such as ``"fp16"``.

    Raises:
        AdapterLoadError: The weights are missing or incomplete, the index is invalid, or there are both a name and a
            variant.
    """
    if weight_name is None:
        weights, index = (
            _with_variant(SAFETENSORS_WEIGHTS_NAME, variant),
            _with_variant(SAFE_WEIGHTS_INDEX_NAME, variant),
        )
        return find_weights(source, source.subfolder, weights, index)
    name = checked_name(source, weight_name, variant)
    path = source.find(source.within(name))
    if path is None:
        raise no_file(source, name)
    return {path: None}


def checked_name(source: Source, weight_name: str, variant: str | None = None) -> str:
    """The name of a file of weights, as a plain path.

    Raises:
        AdapterLoadError: It leads out of the source, is a pickle's, or there is a variant as well.
    """
    if variant is not None:
        raise AdapterLoadError(
            f"weight_name is {shown(weight_name)} and variant is {shown(variant)}, expected one of them. The name of a "
            "file includes its variant: leave out variant."
        )
    name = plain_path(weight_name, "weight_name") or ""
    _check_no_pickle(name, f"{source.location}: ")
    return name


def is_configured(config: Path) -> bool:
    """Whether a config.json configures a model; some repositories have an empty one, by which downloads are counted."""
    with damaged_downloads(config.parent):
        read = read_json(config, MAX_CONFIG_BYTES)
    return isinstance(read, Mapping) and "_class_name" in read


def no_file(source: Source, weight_name: str, there: Iterable[str] = ()) -> AdapterLoadError:
    """The error for a missing file, which names similar ones.

    Args:
        source: Where it is missing.
        weight_name: Its name.
        there: The files of a repository, relative to its top, if they are known.
    """
    name = source.within(weight_name)
    if source.is_folder:
        folder = PurePath(name).parent
        there = [str(folder / path.name) for path in Path(source.location, folder).glob(f"*{_SAFETENSORS}")]
    there = [one for one in there if one.endswith(_SAFETENSORS)]
    similar = names_shown(get_close_matches(name, there, n=1) or there)
    return AdapterLoadError(
        f"{source.location} has no file {shown(name)}. Give the name of a .safetensors file in it"
        f"{f', such as {similar}' if similar else ''}."
    )


def _check_no_pickle(name: str, where: str) -> None:
    if Path(name).suffix in _PICKLES:
        raise AdapterLoadError(
            f"{where}{shown(name)} is a pickle, which can run code when it is read; expected safetensors. Give "
            f"{shown(str(Path(name).with_suffix(_SAFETENSORS)))}, if there is one, or convert it with a tool that you "
            "trust."
        )


def _cached(source: Source, filename: str) -> Path | None:
    try:
        return replace(source, local_files_only=True, force_download=False).find(filename)
    except DownloadError:
        return None


def _with_variant(name: str, variant: str | None) -> str:
    """``model.safetensors`` → ``model.fp16.safetensors``, as diffusers names variants."""
    stem, _, suffix = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{suffix}"
