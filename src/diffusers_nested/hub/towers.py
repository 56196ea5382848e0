"""Vision towers: an adapter's own, or one that several adapters share by its name on the Hub."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..adapter import NestedAdapter
from ..encoder import ImageEncoder
from ..errors import AdapterLoadError
from .source import Source, fetch_weights
from .tower_files import check_name, read_processor, read_tower, read_tower_config

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tower:
    """A vision tower that has been found: its configuration is here, its weights perhaps not."""

    source: Source
    folder: str

    @property
    def name(self) -> str:
        """The same for the same tower, whoever names it."""
        if self.source.is_folder:
            return str(Path(self.source.location, self.folder).resolve())
        return f"{self.source.location}/{self.folder}@{self.source.revision}"

    @property
    def config_file(self) -> str:
        """Path of its configuration from the top of the source."""
        return "/".join(filter(None, (self.folder, "config.json")))


def find_image_encoder(adapter: NestedAdapter, source: Source | None, folder: str) -> Tower:
    """The vision tower of an adapter: in the adapter's own folder, else by the Hub id in its config.

    Args:
        adapter: The adapter that will read the features.
        source: Where the adapter came from; None if it was made in this process.
        folder: Name of the tower's folder in the source.

    Raises:
        AdapterLoadError: No tower is named, it cannot be read, or its features have another width than the adapter
            reads.
    """
    tower = None if source is None else _own_tower(source, folder)
    if tower is None and adapter.config["image_encoder"]:
        tower = _named_tower(adapter.config["image_encoder"], source)
    if tower is None:
        raise AdapterLoadError(
            "The adapter brings no image encoder and its config names none. Pass image_encoder_folder=None and give "
            "`nested_adapter_image_embeds`, or load it by the name of a folder or repository that holds "
            "image_encoder/."
        )
    _check_width(adapter, tower)
    return tower


def load_image_encoder(tower: Tower, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """Load a vision tower with its preprocessing.

    Args:
        tower: Which one.
        torch_dtype: Type of its weights; by default as they are stored.

    Raises:
        AdapterLoadError: It is not whole, or cannot be read.
    """
    source, folder = tower.source, tower.folder
    fetch_weights(source, folder, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
    model = read_tower(source.local_folder(tower.config_file) / folder, torch_dtype)
    return ImageEncoder(model, _feature_extractor(source, folder))


def load_vision_tower(name_or_path: str, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """A vision tower by itself.

    Args:
        name_or_path: A folder, or ``user/repo`` or ``user/repo/sub/folder`` of the Hub.
        torch_dtype: Type of its weights; by default as they are stored.

    Raises:
        AdapterLoadError: There is none, or it cannot be read.
    """
    return load_image_encoder(_tower_at(name_or_path, None), torch_dtype)


def _own_tower(source: Source, folder: str) -> Tower | None:
    """The tower beside the adapter's config, or at the top of the source."""
    for name in dict.fromkeys((source.within(folder), folder)):
        if source.find(f"{name}/config.json") is not None:
            return Tower(source, name)
    return None


def _named_tower(name: str, source: Source | None) -> Tower:
    try:
        return _tower_at(name, source)
    except AdapterLoadError as error:
        raise AdapterLoadError(
            f"The adapter's image encoder {name!r} cannot be loaded. {error} Or pass image_encoder_folder=None and "
            "give `nested_adapter_image_embeds`."
        ) from error


def _tower_at(name: str, source: Source | None) -> Tower:
    # The path of a folder is only taken from the user, or from an adapter that is on this machine.
    if (source is None or source.is_folder) and Path(name).is_dir():
        path = Path(name).resolve()
        return _pinned(Source(str(path.parent)), path.name)
    check_name(name)
    parts = name.split("/")
    location, folder = "/".join(parts[:2]), "/".join(parts[2:])
    reached = Source(location) if source is None else replace(source, location=location, subfolder=None, revision=None)
    return _pinned(reached, folder)


def _pinned(source: Source, folder: str) -> Tower:
    return Tower(source.pinned(Tower(source, folder).config_file), folder)


def _check_width(adapter: NestedAdapter, tower: Tower) -> None:
    width = read_tower_config(tower.source.local_folder(tower.config_file) / tower.folder).hidden_size
    if width != adapter.config["image_feature_dim"]:
        raise AdapterLoadError(
            f"The image encoder {tower.name} gives features of width {width}, the adapter reads "
            f"{adapter.config['image_feature_dim']}. Use the image encoder that the adapter was trained with."
        )


def _feature_extractor(source: Source, folder: str) -> CLIPImageProcessorPil:
    """The preprocessing stored beside the tower; CLIP's own where none is."""
    beside = "/".join([*folder.split("/")[:-1], "feature_extractor"])
    for place in (beside, folder):
        found = source.find("/".join(filter(None, (place, "preprocessor_config.json"))))
        if found is not None:
            return read_processor(found)
    logger.info("no feature extractor beside %s/%s: using CLIP's", source.location, folder)
    return CLIPImageProcessorPil()
