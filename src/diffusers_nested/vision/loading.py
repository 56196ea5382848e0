"""Loads vision towers that have been found, with their preprocessing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch

from ..errors import AdapterLoadError, DownloadError
from ..files.damage import damaged_downloads
from ..files.weights import check_dtype, find_weights
from .encoder import ImageEncoder
from .preprocessing import check_processor_fits, read_processor
from .registry import TOWER_KINDS
from .several import ImageEncoders, together
from .tower import Tower
from .tower_files import read_tower
from .towers import named_by_user

_WEIGHTS = "model.safetensors"


@overload
def load_vision_tower(name_or_path: str, torch_dtype: torch.dtype | None = None) -> ImageEncoder: ...
@overload
def load_vision_tower(
    name_or_path: Sequence[str], torch_dtype: torch.dtype | None = None
) -> ImageEncoder | ImageEncoders: ...
def load_vision_tower(
    name_or_path: str | Sequence[str], torch_dtype: torch.dtype | None = None
) -> ImageEncoder | ImageEncoders:
    """Load a vision tower by itself, or several that are read together, for example to train an adapter.

    Args:
        name_or_path: A folder, or ``user/repo`` or ``user/repo/sub/folder`` on the Hub; or a list of these.
        torch_dtype: Type of the weights; by default the one they are stored in.

    Raises:
        AdapterLoadError: There is no such tower, it cannot be read, or the list is empty.
    """
    names = [name_or_path] if isinstance(name_or_path, str | Path) else list(name_or_path)
    if not names:
        raise AdapterLoadError("The list of vision towers is empty. Name at least one folder or repository.")
    return together([load_image_encoder(named_by_user(str(name)), torch_dtype) for name in names])


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
    where = f"There is no {tower.preprocessing}/ beside {tower.place}: the default" if stored is None else str(stored)
    check_processor_fits(processor, tower.config, where, kind.any_size, tower.preprocessing)
    return processor


def _stored_preprocessing(tower: Tower) -> Path | None:
    """A tower's preprocessor_config.json: in the folder for it beside the tower, else in the tower's own."""
    beside = "/".join([*tower.folder.split("/")[:-1], tower.preprocessing])
    places = ["/".join(filter(None, (folder, "preprocessor_config.json"))) for folder in (beside, tower.folder)]
    try:
        return next(filter(None, map(tower.source.find, places)), None)
    except DownloadError:
        if not tower.is_of_ip_adapter:
            raise
        return None  # diffusers has downloaded the tower, and does not ask for preprocessing
