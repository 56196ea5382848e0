"""An adapter's configuration, read from its file."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError
from ..files import names_shown, read_json, shown
from ..files.limits import MAX_CONFIG_BYTES
from .checks import FORMAT_VERSION

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
