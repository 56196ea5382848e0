"""Vision towers: which one an adapter reads, and how it is loaded.

Loading, ``inspect`` and publishing follow the same rule. The first tower that exists is used:

1. the folder that the user gives as ``image_encoder_folder``, beside the adapter's config.json or at the top of the
   repository; it is an error if there is none;
2. ``image_encoder/`` beside the adapter's config.json;
3. the tower that the config names: ``user/repo`` or ``user/repo/sub/folder`` always means the Hub, even if there is a
   local folder of that name; an absolute path is accepted only from adapters in a folder of this machine;
4. ``image_encoder/`` at the top of the repository, for adapters in subfolders that name no tower.

For each tower of an adapter that reads several, the folders are those with its number: ``image_encoder_2/`` and so on.

For the file of an IP-Adapter, the folder in 1 and 2 is where diffusers looks for it: a name without a slash is a
folder within ``subfolder``, one with a slash counts from the top. 3 is the published tower that fits the file.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError, NestedAdapterError, Remedy
from ..files import CONFIG_NAME, is_download, is_folder, plain_path, shown
from ..files.source import Source
from .kinds import LAST
from .reads import TITLES, check_kind, each_tower
from .registry import TOWER_KINDS
from .several import each_of
from .tower import OWN_FOLDER, Tower, numbered
from .tower_files import check_name

logger = logging.getLogger(__name__)


def find_image_encoders(
    config: Mapping[str, Any],
    source: Source | None,
    folder: str | Sequence[str] = OWN_FOLDER,
    features: str | Sequence[str] = LAST,
    is_ip_adapter: bool = False,
) -> list[Tower]:
    """All vision towers that an adapter reads; see ``find_image_encoder``.

    Args:
        config: Configuration of the adapter.
        source: Where the adapter comes from; None if it was created in this process.
        folder: The user's ``image_encoder_folder``, without number, or a list with that of each tower.
        features: Which features the adapter reads, of all towers or of each.
        is_ip_adapter: Whether the adapter is the file of an IP-Adapter.

    Raises:
        NestedAdapterError: The list of folders has another length.
        AdapterLoadError: As for ``find_image_encoder``.
    """
    towers = each_tower(config)
    rows = zip(towers, each_folder(folder, len(towers)), each_of(features, len(towers)), strict=True)
    return [
        find_image_encoder(one, source, where, wanted, is_ip_adapter, number)
        for number, (one, where, wanted) in enumerate(rows, 1)
    ]


def each_folder(folder: Any, count: int) -> list[str]:
    """The folder of each tower, from a list of them or the first one's name.

    Raises:
        NestedAdapterError: The list has another length.
    """
    if not isinstance(folder, list | tuple):
        first = plain_path(folder, "image_encoder_folder") or ""
        return [numbered(first, number) for number in range(1, count + 1)]
    if len(folder) != count or None in folder:
        raise NestedAdapterError(
            f"image_encoder_folder is {list(folder)}, but the adapter reads {count} vision tower{'s' * (count > 1)}. "
            "Give the name of a folder for each, in the same order."
        )
    return list(folder)


def find_image_encoder(
    config: Mapping[str, Any],
    source: Source | None,
    folder: str = OWN_FOLDER,
    features: str = LAST,
    is_ip_adapter: bool = False,
    number: int = 1,
) -> Tower:
    """The vision tower that an adapter reads, according to this module's rule.

    Args:
        config: Configuration of the adapter, as that of one with a single tower.
        source: Where the adapter comes from; None if it was created in this process.
        folder: The folder in the user's ``image_encoder_folder``.
        features: Which of its features the adapter reads.
        is_ip_adapter: Whether the adapter is the file of an IP-Adapter.
        number: The number of the tower among those that the adapter reads.

    Raises:
        AdapterLoadError: There is no tower, it cannot be read, is of another family than the adapter was trained with,
            or its features do not have the adapter's width.
    """
    tower = locate_image_encoder(config, source, folder, is_ip_adapter, number)
    if tower is None:
        which = "an image encoder" if number == 1 else f"its image encoder {number}"
        raise AdapterLoadError(
            f"The adapter comes without {which}, and its config names none. Pass image_encoder_folder=None and "
            "give `nested_adapter_image_embeds`, or load it from a folder or repository that contains "
            f"{numbered(OWN_FOLDER, number)}/."
        )
    if tower.source is not source:
        logger.info("the adapter's config names the image encoder %s", tower.place)  # it may belong to somebody else
        tower = _pinned_by_name(tower, source)
    check_fits(config, tower, features)
    return replace(tower, is_of_ip_adapter=is_ip_adapter)


def locate_image_encoder(
    config: Mapping[str, Any],
    source: Source | None,
    folder: str = OWN_FOLDER,
    is_ip_adapter: bool = False,
    number: int = 1,
) -> Tower | None:
    """Like ``find_image_encoder``, without contacting the repository that a config names; None if there is no tower.

    Args:
        config: Configuration of the adapter.
        source: Where the adapter comes from; None if it was created in this process.
        folder: The folder in the user's ``image_encoder_folder``.
        is_ip_adapter: Whether the adapter is the file of an IP-Adapter.
        number: The number of the tower among those that the adapter reads.

    Raises:
        AdapterLoadError: The user's folder does not exist, the config's name is invalid, or the source cannot be read.
    """
    folder = plain_path(folder, "image_encoder_folder") or ""
    is_given = folder != numbered(OWN_FOLDER, number)
    places = [] if source is None else _places(source, folder, is_ip_adapter)
    first = _first_tower(source, places if is_given else places[:1], number)
    if first is not None:
        return first
    if is_given:
        raise _no_tower(source, folder, places or [folder])
    if config["image_encoder"]:
        return _named_tower(config["image_encoder"], source)
    return _first_tower(source, places[1:], number)


def check_fits(config: Mapping[str, Any], tower: Tower, features: str) -> None:
    """Raise unless a tower is of the family, and its features of the width, that an adapter reads.

    Args:
        config: Configuration of the adapter, as that of one with a single tower.
        tower: The tower.
        features: Which of its features the adapter reads.

    Raises:
        AdapterLoadError: They differ; the message gives both.
    """
    named = config["image_encoder"]
    known = f", {named}" if named and named != tower.place else ""
    check_kind(config, tower.config.model_type, f"The image encoder {tower.name}", known)
    width = getattr(tower.config, TOWER_KINDS[tower.config.model_type].features[features].width)
    if width != config["image_feature_dim"]:
        within = f"{tower.source.location}/"
        here = f", here {named.removeprefix(within)!r}." if known and named.startswith(within) else ""
        raise AdapterLoadError(
            f"The image encoder {tower.name} gives {TITLES[features]} of width {width}, but the adapter reads "
            f"{config['image_feature_dim']}. Use the image encoder that the adapter was trained with{known}: give its "
            f"folder as image_encoder_folder=...{here}"
        )


def named_by_user(name: str) -> Tower:
    """The tower in a folder, or in ``user/repo`` or ``user/repo/sub/folder`` on the Hub at its current commit.

    Raises:
        AdapterLoadError: There is no such tower.
    """
    if is_folder(name):
        return _tower_of_folder(name)
    check_name(name, remedy="Name the folder of a vision tower, or its place on the Hub.")
    return _pinned(_tower_of_hub(name, None))


def _places(source: Source, folder: str, is_ip_adapter: bool) -> list[str]:
    """Where a folder of the user's may be, relative to the top of the source."""
    if is_ip_adapter:
        return [folder if "/" in folder else source.within(folder)]
    return list(dict.fromkeys([source.within(folder), folder]))


def _first_tower(source: Source | None, folders: Sequence[str], number: int) -> Tower | None:
    towers = [] if source is None else [Tower(source, folder, number=number) for folder in folders]
    return next((tower for tower in towers if tower.found is not None), None)


def _no_tower(source: Source | None, folder: str, places: Sequence[str]) -> AdapterLoadError:
    """The error for a folder of the user's in which there is none."""
    where = "The adapter was created in this process and has" if source is None else f"{source.location} has"
    files = " and no ".join(f"{shown(place)[1:-1]}/config.json" for place in places)
    return AdapterLoadError(
        f"{where} no {files}, so image_encoder_folder cannot be {shown(folder)}. Give a folder that contains a vision "
        "tower, or leave it out to use the adapter's own."
    )


def _named_tower(name: str, source: Source | None) -> Tower:
    # A path is accepted only from the user, or from an adapter of this machine.
    is_own = source is None or (source.is_folder and not is_download(Path(source.location)))
    if is_own and Path(name).is_absolute() and is_folder(name):
        return _tower_of_folder(name)
    check_name(name, "The adapter's config names the image encoder")
    return _tower_of_hub(name, source)


def _tower_of_folder(name: str) -> Tower:
    path = Path(name).resolve()
    return Tower(Source(str(path.parent)), path.name)


def _tower_of_hub(name: str, source: Source | None) -> Tower:
    parts = name.split("/")
    location = "/".join(parts[:2])
    reached = Source(location) if source is None else source
    place = replace(reached, location=location, subfolder=None, revision=None, on_hub=True)
    return Tower(place, "/".join(parts[2:]))


def _pinned(tower: Tower) -> Tower:
    return replace(tower, source=tower.source.pinned(tower.path_of(CONFIG_NAME))[0])


def _pinned_by_name(tower: Tower, source: Source | None) -> Tower:
    try:
        return _pinned(tower)
    except AdapterLoadError as error:
        folder = source is not None and source.is_folder and is_folder(tower.place)
        here = f" To use the local folder {tower.place!r}, write its absolute path into the config." if folder else ""
        raise AdapterLoadError(
            f"The adapter's image encoder {tower.place!r} cannot be loaded. {error}{here} {Remedy.NO_IMAGE_ENCODER}"
        ) from error
