"""The files of an adapter: reading its configuration, and locating its weights."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME

from ..errors import AdapterLoadError
from ..files import CONFIG_NAME, names_shown, plain_path, read_json, shown
from ..files.headers import read_header
from ..files.limits import MAX_CONFIG_BYTES
from ..files.source import Source
from ..files.weights import Files, find_weights
from .checks import FORMAT_VERSION
from .ip_adapter import is_ip_adapter

_PICKLES = ("bin", "pt", "pth", "ckpt", "pkl")
_REQUIRED = ("layers", "token_dim", "image_feature_dim")


def read_config(path: Path, kind: str, source: str, settings: Collection[str]) -> dict[str, Any]:
    """The settings in a config.json; ``check_config`` then checks their values.

    Args:
        path: The file.
        kind: The class name that it must contain.
        source: Where it comes from, for messages.
        settings: Names of the known settings.

    Raises:
        AdapterLoadError: It is not JSON, is of another class or a newer format, or a setting is missing or unknown.
    """
    config = read_json(path, MAX_CONFIG_BYTES)
    _check_whole(config, kind, source, settings)
    # entries that diffusers uses internally (their names begin with _) are not accepted from strangers
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _check_whole(config: Any, kind: str, source: str, settings: Collection[str]) -> None:
    found = config.get("_class_name") if isinstance(config, Mapping) else None
    if found != kind:
        what = "configuration without a class" if found is None else shown(found).strip("'")
        raise AdapterLoadError(
            f"{source} contains a {what}, not a {kind}. Give a folder or repository whose config.json says {kind}."
        )
    version = config.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise AdapterLoadError(
            f"{source} has format_version {shown(version)}; this version of diffusers-nested reads up to "
            f"{FORMAT_VERSION}. Upgrade diffusers-nested."
        )
    missing = [name for name in _REQUIRED if name not in config]
    if missing:
        raise AdapterLoadError(f"The config.json of {source} has no {', '.join(missing)}. Download it again.")
    unknown = [name for name in config if not name.startswith("_") and name not in settings]
    if unknown:
        raise AdapterLoadError(
            f"The config.json of {source} has unknown settings: {names_shown(unknown)}. Known are "
            f"{', '.join(sorted(settings))}. Upgrade diffusers-nested if the adapter is newer."
        )


def find_ip_adapter(source: Source, weight_name: str | None, variant: str | None) -> tuple[Source, Path] | None:
    """The file of an IP-Adapter; None if the source is an adapter of ours, or the file is none of IP-Adapter's.

    Args:
        source: Where it may be.
        weight_name: Name of the file.
        variant: Must be None for an IP-Adapter.

    Returns:
        The source at a commit, and the local path of the file.

    Raises:
        AdapterLoadError: There is no such file, it is a pickle, or there are both a name and a variant.
    """
    config = source.find(source.within(CONFIG_NAME))
    if weight_name is None or (config is not None and _names_a_class(config)):
        return None
    _check_no_pickle(source, weight_name)
    (path,) = find_adapter_weights(source, weight_name, variant)
    if not is_ip_adapter(read_header(path)):
        return None
    return source.pinned(source.within(plain_path(weight_name) or ""))


def _names_a_class(config: Path) -> bool:
    """Whether a config.json configures a model; some repositories have an empty one, by which downloads are counted."""
    read = read_json(config, MAX_CONFIG_BYTES)
    return isinstance(read, Mapping) and "_class_name" in read


def _check_no_pickle(source: Source, weight_name: str) -> None:
    stem, _, suffix = str(weight_name).rpartition(".")
    if suffix in _PICKLES:
        raise AdapterLoadError(
            f"{source.location}: {shown(weight_name)} is a pickle, which can run code when it is read; expected "
            f"safetensors. Pass weight_name={stem + '.safetensors'!r}."
        )


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
    if variant is not None:
        raise AdapterLoadError(
            f"weight_name is {shown(weight_name)} and variant is {shown(variant)}, expected one of them. The name of a "
            "file includes its variant: leave out variant."
        )
    name = plain_path(weight_name, "weight_name")
    path = None if name is None else source.find(source.within(name))
    if path is None:
        raise AdapterLoadError(
            f"{source.location} has no file {shown(weight_name)}. Give the name of a .safetensors file in it."
        )
    return {path: None}


def _with_variant(name: str, variant: str | None) -> str:
    """``model.safetensors`` → ``model.fp16.safetensors``, as diffusers names variants."""
    stem, _, suffix = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{suffix}"
