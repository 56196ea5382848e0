"""Vision towers: which one an adapter reads, and how it is loaded.

Loading, ``inspect`` and publishing follow the same rule. The first tower that exists is used:

1. the folder that the user gives as ``image_encoder_folder``, beside the adapter's config.json or at the top of the
   repository; it is an error if there is none;
2. ``image_encoder/`` beside the adapter's config.json;
3. the tower that the config names: ``user/repo`` or ``user/repo/sub/folder`` always means the Hub, even if there is a
   local folder of that name; an absolute path is accepted only from adapters in a folder of this machine;
4. ``image_encoder/`` at the top of the repository, for adapters in subfolders that name no tower.

For the file of an IP-Adapter, the folder in 1 and 2 is where diffusers looks for it: a name without a slash is a
folder within ``subfolder``, one with a slash counts from the top. 3 is the published tower that fits the file.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterLoadError, DownloadError, Remedy
from ..files import CONFIG_NAME, is_download, is_folder, plain_path, shown
from ..files.damage import damaged_downloads
from ..files.source import Source
from ..files.weights import check_dtype, find_weights
from .encoder import ImageEncoder
from .kinds import LAST, PENULTIMATE, POOLED
from .preprocessing import check_processor_fits, read_processor
from .registry import TOWER_KINDS
from .tower_files import check_name, read_tower, read_tower_config

OWN_FOLDER = "image_encoder"
_PREPROCESSING = "feature_extractor"
_WEIGHTS = "model.safetensors"
_TITLES = {LAST: "features", PENULTIMATE: "features", POOLED: "pooled features"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tower:
    """The place of a vision tower; its configuration is read on first use.

    Attributes:
        source: The source that contains it.
        folder: Its folder, relative to the top of the source.
        is_of_ip_adapter: Whether it belongs to an IP-Adapter's file. Without preprocessing of its own beside it, photos
            are then prepared as in diffusers, by the defaults for its input size.
    """

    source: Source
    folder: str
    is_of_ip_adapter: bool = False

    @property
    def name(self) -> str:
        """A name that identifies the tower, however it was referred to."""
        if self.source.is_folder:
            return str(Path(self.source.location, self.folder).resolve())
        return f"{self.place}@{self.source.revision}"

    @property
    def place(self) -> str:
        """Its place, in the form that configurations use."""
        return "/".join(filter(None, (self.source.location, self.folder)))

    def path_of(self, name: str) -> str:
        """Path of one of its files, relative to the top of the source."""
        return "/".join(filter(None, (self.folder, name)))

    @cached_property
    def found(self) -> Path | None:
        """Local path of its config.json; None if there is no such tower."""
        return self.source.find(self.path_of(CONFIG_NAME))

    @property
    def local_folder(self) -> Path:
        """The local folder of its config.json.

        Raises:
            AdapterLoadError: There is no config.json, or it cannot be read.
        """
        if self.found is None:
            raise AdapterLoadError(
                f"The image encoder is incomplete: {self.place} has no {CONFIG_NAME}. Save it again."
            )
        return self.found.parent

    @cached_property
    def config(self) -> Any:
        """Its configuration.

        Raises:
            AdapterLoadError: It is missing or belongs to another model, or a value is out of range.
        """
        folder = self.local_folder
        with damaged_downloads(folder):
            return read_tower_config(folder / CONFIG_NAME)


def find_image_encoder(
    config: Mapping[str, Any],
    source: Source | None,
    folder: str = OWN_FOLDER,
    features: str = LAST,
    is_ip_adapter: bool = False,
) -> Tower:
    """The vision tower that an adapter reads, according to this module's rule.

    Args:
        config: Configuration of the adapter.
        source: Where the adapter comes from; None if it was created in this process.
        folder: The user's ``image_encoder_folder``.
        features: Which of its features the adapter reads.
        is_ip_adapter: Whether the adapter is the file of an IP-Adapter.

    Raises:
        AdapterLoadError: There is no tower, it cannot be read, or its features do not have the adapter's width.
    """
    tower = locate_image_encoder(config, source, folder, is_ip_adapter)
    if tower is None:
        raise AdapterLoadError(
            "The adapter comes without an image encoder, and its config names none. Pass image_encoder_folder=None and "
            "give `nested_adapter_image_embeds`, or load it from a folder or repository that contains image_encoder/."
        )
    if tower.source is not source:
        logger.info("the adapter's config names the image encoder %s", tower.place)  # it may belong to somebody else
        tower = _pinned_by_name(tower, source)
    check_width(config, tower, features)
    return replace(tower, is_of_ip_adapter=is_ip_adapter)


def locate_image_encoder(
    config: Mapping[str, Any], source: Source | None, folder: str = OWN_FOLDER, is_ip_adapter: bool = False
) -> Tower | None:
    """Like ``find_image_encoder``, without contacting the repository that a config names; None if there is no tower.

    Args:
        config: Configuration of the adapter.
        source: Where the adapter comes from; None if it was created in this process.
        folder: The user's ``image_encoder_folder``.
        is_ip_adapter: Whether the adapter is the file of an IP-Adapter.

    Raises:
        AdapterLoadError: The user's folder does not exist, the config's name is invalid, or the source cannot be read.
    """
    folder = plain_path(folder, "image_encoder_folder") or ""
    is_given = folder != OWN_FOLDER
    places = [] if source is None else _places(source, folder, is_ip_adapter)
    first = _first_tower(source, places if is_given else places[:1])
    if first is not None:
        return first
    if is_given:
        raise _no_tower(source, folder, places or [folder])
    if config["image_encoder"]:
        return _named_tower(config["image_encoder"], source)
    return _first_tower(source, places[1:])


def check_width(config: Mapping[str, Any], tower: Tower, features: str) -> None:
    """Raise unless a tower's features have the width that an adapter reads.

    Args:
        config: Configuration of the adapter.
        tower: The tower.
        features: Which of its features the adapter reads.

    Raises:
        AdapterLoadError: The widths differ; the message gives both.
    """
    width = getattr(tower.config, TOWER_KINDS[tower.config.model_type].features[features].width)
    if width != config["image_feature_dim"]:
        named = config["image_encoder"]
        known = f", {named}" if named and named != tower.place else ""
        within = f"{tower.source.location}/"
        here = f", here {named.removeprefix(within)!r}." if known and named.startswith(within) else ""
        raise AdapterLoadError(
            f"The image encoder {tower.name} gives {_TITLES[features]} of width {width}, but the adapter reads "
            f"{config['image_feature_dim']}. Use the image encoder that the adapter was trained with{known}: give its "
            f"folder as image_encoder_folder=...{here}"
        )


def load_image_encoder(tower: Tower, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """Load a vision tower with its preprocessing.

    Args:
        tower: The tower.
        torch_dtype: Type of its weights; by default the one they are stored in.

    Raises:
        AdapterLoadError: It is incomplete, cannot be read, or its preprocessing does not match its input size.
    """
    check_dtype(torch_dtype)
    config = tower.config
    stored = _stored_preprocessing(tower)
    with damaged_downloads(tower.local_folder, *([] if stored is None else [stored.parent])):
        processor = _processor(tower, stored)
        files = find_weights(tower.source, tower.folder, _WEIGHTS, f"{_WEIGHTS}.index.json")
        return ImageEncoder(read_tower(config, files, tower.place, torch_dtype), processor)


def _processor(tower: Tower, stored: Path | None) -> Any:
    kind, side = TOWER_KINDS[tower.config.model_type], tower.config.image_size
    if tower.is_of_ip_adapter and stored is None:
        return kind.processor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = kind.processor(**kind.preprocessing) if stored is None else read_processor(stored, kind.processor)
    where = f"There is no {_PREPROCESSING}/ beside {tower.place}: the default" if stored is None else str(stored)
    check_processor_fits(processor, tower.config, where, kind.any_size)
    return processor


def load_vision_tower(name_or_path: str, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """Load a vision tower by itself, for example to train an adapter.

    Args:
        name_or_path: A folder, or ``user/repo`` or ``user/repo/sub/folder`` on the Hub.
        torch_dtype: Type of its weights; by default the one they are stored in.

    Raises:
        AdapterLoadError: There is no such tower, or it cannot be read.
    """
    if is_folder(name_or_path):
        return load_image_encoder(_tower_of_folder(name_or_path), torch_dtype)
    check_name(name_or_path)
    return load_image_encoder(_pinned(_tower_of_hub(name_or_path, None)), torch_dtype)


def _places(source: Source, folder: str, is_ip_adapter: bool) -> list[str]:
    """Where a folder of the user's may be, relative to the top of the source."""
    if is_ip_adapter:
        return [folder if "/" in folder else source.within(folder)]
    return list(dict.fromkeys([source.within(folder), folder]))


def _first_tower(source: Source | None, folders: Sequence[str]) -> Tower | None:
    towers = [] if source is None else [Tower(source, folder) for folder in folders]
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


def _stored_preprocessing(tower: Tower) -> Path | None:
    """A tower's preprocessor_config.json: in feature_extractor/ beside it, else in its own folder."""
    beside = "/".join([*tower.folder.split("/")[:-1], _PREPROCESSING])
    places = ["/".join(filter(None, (folder, "preprocessor_config.json"))) for folder in (beside, tower.folder)]
    try:
        return next(filter(None, map(tower.source.find, places)), None)
    except DownloadError:
        if not tower.is_of_ip_adapter:
            raise
        return None  # diffusers has downloaded the tower, and does not ask for preprocessing
