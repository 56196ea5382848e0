"""Vision towers: which one an adapter reads, and how it is loaded.

One rule says which, for loading, ``inspect`` and publishing alike. The first of these that there is:

1. the folder that the user names as ``image_encoder_folder``, beside the adapter's config.json or at the top of the
   repository; it must be there;
2. ``image_encoder/`` beside the adapter's config.json, which belongs to it;
3. the tower that the config names: ``user/repo`` or ``user/repo/sub/folder`` is one of the Hub, whatever folders there
   are here; an absolute path is taken from an adapter only that is in a folder of this machine's own;
4. ``image_encoder/`` at the top of the repository, for the adapters in its sub-folders that name none.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterLoadError, Remedy
from ..files import CONFIG_NAME, is_download, is_folder, plain_path, shown
from ..files.damage import damaged_downloads
from ..files.source import Source
from ..files.weights import find_weights
from .encoder import ImageEncoder
from .kinds import TOWER_KINDS
from .preprocessing import check_processor_fits, read_processor
from .tower_files import check_name, read_tower, read_tower_config

OWN_FOLDER = "image_encoder"
_PREPROCESSING = "feature_extractor"
_WEIGHTS = "model.safetensors"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tower:
    """A vision tower that has been found: its configuration is read when it is first asked for, its weights not yet.

    Attributes:
        source: Where it is.
        folder: Its folder, from the top of the source.
    """

    source: Source
    folder: str

    @property
    def name(self) -> str:
        """The same for the same tower, whoever names it."""
        if self.source.is_folder:
            return str(Path(self.source.location, self.folder).resolve())
        return f"{self.place}@{self.source.revision}"

    @property
    def place(self) -> str:
        """Where it is, as a configuration names it."""
        return "/".join(filter(None, (self.source.location, self.folder)))

    def path_of(self, name: str) -> str:
        """Path of one of its files from the top of the source."""
        return "/".join(filter(None, (self.folder, name)))

    @cached_property
    def found(self) -> Path | None:
        """Its configuration on this machine; None if there is none, and so no tower."""
        return self.source.find(self.path_of(CONFIG_NAME))

    @property
    def local_folder(self) -> Path:
        """The folder on this machine, where its configuration is.

        Raises:
            AdapterLoadError: It has none, or cannot be read.
        """
        if self.found is None:
            raise AdapterLoadError(f"The image encoder is not whole: {self.place} has no {CONFIG_NAME}. Save it again.")
        return self.found.parent

    @cached_property
    def config(self) -> Any:
        """Its configuration.

        Raises:
            AdapterLoadError: It is missing, of another model, or a value is out of its range.
        """
        with damaged_downloads(self.local_folder):
            return read_tower_config(self.local_folder / CONFIG_NAME)


def find_image_encoder(config: Mapping[str, Any], source: Source | None, folder: str = OWN_FOLDER) -> Tower:
    """The vision tower that an adapter reads, by the rule of this module.

    Args:
        config: Configuration of the adapter that will read the features.
        source: Where the adapter came from; None if it was made in this process.
        folder: ``image_encoder_folder``, what the user calls the tower's folder.

    Raises:
        AdapterLoadError: There is none, it cannot be read, or its features have another width than the adapter reads.
    """
    tower = locate_image_encoder(config, source, folder)
    if tower is None:
        raise AdapterLoadError(
            "The adapter brings no image encoder and its config names none. Pass image_encoder_folder=None and give "
            "`nested_adapter_image_embeds`, or load it by the name of a folder or repository that holds "
            "image_encoder/."
        )
    if tower.source is not source:
        logger.info("the adapter's config names the image encoder %s", tower.place)  # perhaps somebody else's
        tower = _pinned_by_name(tower, source)
    _check_width(config, tower)
    return tower


def locate_image_encoder(config: Mapping[str, Any], source: Source | None, folder: str = OWN_FOLDER) -> Tower | None:
    """As ``find_image_encoder``, without a look at the tower that a config names; None if there is none.

    Args:
        config: Configuration of the adapter.
        source: Where it is; None if the adapter was made in this process.
        folder: ``image_encoder_folder``.

    Raises:
        AdapterLoadError: The user's folder is not there, the name in the config can be none, or the source cannot be
            read.
    """
    folder = plain_path(folder, "image_encoder_folder") or ""
    beside = None if source is None else _tower_in(source, source.within(folder))
    if beside is not None:
        return beside
    if folder != OWN_FOLDER:
        return _users_tower(source, folder)
    if config["image_encoder"]:
        return _named_tower(config["image_encoder"], source)
    return None if source is None else _tower_in(source, folder)


def load_image_encoder(tower: Tower, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """Load a vision tower with its preprocessing.

    Args:
        tower: Which one.
        torch_dtype: Type of its weights; by default as they are stored.

    Raises:
        AdapterLoadError: It is not whole, cannot be read, or its preprocessing makes pictures of another size than it
            sees.
    """
    config, stored = tower.config, _stored_preprocessing(tower)
    kind = TOWER_KINDS[config.model_type].processor
    with damaged_downloads(tower.local_folder, *([] if stored is None else [stored.parent])):
        processor = kind() if stored is None else read_processor(stored, kind)
        where = f"There is no {_PREPROCESSING}/ beside {tower.place}: the default" if stored is None else str(stored)
        check_processor_fits(processor, config.image_size, where)
        files = find_weights(tower.source, tower.folder, _WEIGHTS, f"{_WEIGHTS}.index.json")
        return ImageEncoder(read_tower(config, files, tower.place, torch_dtype), processor)


def load_vision_tower(name_or_path: str, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """A vision tower by itself.

    Args:
        name_or_path: A folder, or ``user/repo`` or ``user/repo/sub/folder`` of the Hub.
        torch_dtype: Type of its weights; by default as they are stored.

    Raises:
        AdapterLoadError: There is none, or it cannot be read.
    """
    if is_folder(name_or_path):
        return load_image_encoder(_tower_of_folder(name_or_path), torch_dtype)
    check_name(name_or_path)
    return load_image_encoder(_pinned(_tower_of_hub(name_or_path, None)), torch_dtype)


def _tower_in(source: Source, folder: str) -> Tower | None:
    tower = Tower(source, folder)
    return None if tower.found is None else tower


def _users_tower(source: Source | None, folder: str) -> Tower:
    tower = None if source is None else _tower_in(source, folder)
    if tower is None:
        where = "The adapter, which was made in this process, has" if source is None else f"{source.location} has"
        raise AdapterLoadError(
            f"{where} no {shown(folder)[1:-1]}/config.json, so image_encoder_folder cannot be {shown(folder)}. Name a "
            "folder of it that holds a vision tower, or leave it out for the adapter's own."
        )
    return tower


def _named_tower(name: str, source: Source | None) -> Tower:
    # A path is only taken from the user, or from an adapter that is this machine's own.
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
        here = f" To use the folder {tower.place!r} here, write its absolute path into the config." if folder else ""
        raise AdapterLoadError(
            f"The adapter's image encoder {tower.place!r} cannot be loaded. {error}{here} {Remedy.NO_IMAGE_ENCODER}"
        ) from error


def _check_width(config: Mapping[str, Any], tower: Tower) -> None:
    width = tower.config.hidden_size
    if width != config["image_feature_dim"]:
        raise AdapterLoadError(
            f"The image encoder {tower.name} gives features of width {width}, the adapter reads "
            f"{config['image_feature_dim']}. Use the image encoder that the adapter was trained with."
        )


def _stored_preprocessing(tower: Tower) -> Path | None:
    """Of a tower: beside it in feature_extractor/, else in its own folder."""
    beside = "/".join([*tower.folder.split("/")[:-1], _PREPROCESSING])
    for folder in (beside, tower.folder):
        path = tower.source.find("/".join(filter(None, (folder, "preprocessor_config.json"))))
        if path is not None:
            return path
    return None
