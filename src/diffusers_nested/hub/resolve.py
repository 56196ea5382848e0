"""From a repository id or a folder to an adapter and its image encoder."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import nn
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..adapter import NestedAdapter
from ..encoder import ImageEncoder
from ..errors import AdapterLoadError
from ..safe_files import read_index
from .tower_files import check_name, read_processor, read_tower, read_tower_config

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where an adapter comes from: a folder or a repository, and how to reach it."""

    location: str
    subfolder: str | None = None
    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    force_download: bool = False

    def hub_keywords(self) -> dict[str, Any]:
        """The keywords that diffusers, transformers and huggingface_hub share."""
        names = ("revision", "token", "cache_dir", "local_files_only", "force_download")
        return {name: getattr(self, name) for name in names}

    def find(self, filename: str) -> Path | None:
        """Path of a file of this source, downloaded if need be; None if the source has no such file."""
        if Path(self.location).is_dir():
            path = Path(self.location, filename)
            return path if path.is_file() else None
        try:
            return Path(hf_hub_download(self.location, filename, **self.hub_keywords()))
        except EntryNotFoundError:
            return None


def load_adapter(
    source: Source,
    weight_name: str | None = None,
    variant: str | None = None,
    torch_dtype: torch.dtype | None = None,
    unet: nn.Module | None = None,
) -> NestedAdapter:
    """Load an adapter's configuration and weights.

    Args:
        source: Where it is.
        weight_name: File of the weights, if not the one that diffusers writes.
        variant: Such as "fp16", for ``diffusion_pytorch_model.fp16.safetensors``.
        torch_dtype: Type of the weights; by default float32.
        unet: A UNet that it must fit, checked before weights are read.

    Raises:
        AdapterLoadError: Not an adapter, not a whole one, or made for another UNet.
    """
    if Path(source.location).exists() and not Path(source.location).is_dir():
        raise AdapterLoadError(
            f"{source.location} is a file. Name the folder that holds the adapter's config.json, and the file as "
            f"weight_name={Path(source.location).name!r}."
        )
    return NestedAdapter.from_pretrained(
        source.location,
        subfolder=source.subfolder,
        weight_name=weight_name,
        variant=variant,
        torch_dtype=torch_dtype,
        unet=unet,
        **source.hub_keywords(),
    )


def load_image_encoder(
    adapter: NestedAdapter, source: Source | None, folder: str, torch_dtype: torch.dtype | None = None
) -> tuple[str, ImageEncoder]:
    """The vision tower of an adapter: from the adapter's own folder, else from the Hub id in its config.

    Args:
        adapter: The adapter that will read the features.
        source: Where the adapter came from; None if it was made in this process.
        folder: Name of the tower's folder in the source.
        torch_dtype: Type of the tower's weights.

    Returns:
        A name that is the same for the same tower, and the tower.

    Raises:
        AdapterLoadError: No tower is named, or its features have another width than the adapter reads.
    """
    own = None if source is None else _own_folder(source, folder)
    if source is not None and own is not None:
        location, subfolder, keywords = source.location, own, source.hub_keywords()
    elif adapter.config["image_encoder"] and _is_local(adapter.config["image_encoder"], source):
        path = Path(adapter.config["image_encoder"]).resolve()
        location, subfolder, keywords = str(path.parent), path.name, {}
    elif adapter.config["image_encoder"]:
        check_name(adapter.config["image_encoder"])
        parts = adapter.config["image_encoder"].split("/")
        location, subfolder = "/".join(parts[:2]), "/".join(parts[2:])
        keywords = {} if source is None else {**source.hub_keywords(), "revision": None}
    else:
        raise AdapterLoadError(
            "The adapter brings no image encoder and its config names none. Pass image_encoder_folder=None and give "
            "`nested_adapter_image_embeds`, or use a folder that holds image_encoder/."
        )
    _check_width(adapter, location, subfolder, keywords)
    encoder = _load_tower(location, subfolder, torch_dtype, keywords)
    return f"{location}/{subfolder}@{keywords.get('revision')}", encoder


def _is_local(name: str, source: Source | None) -> bool:
    """Whether a config names a folder, which it may if it is on this machine itself, as after training."""
    return Path(name).is_dir() and (source is None or Path(source.location).is_dir())


def load_vision_tower(name_or_path: str, torch_dtype: torch.dtype | None = None) -> ImageEncoder:
    """A vision tower by itself: a folder, ``user/repo`` or ``user/repo/sub/folder`` of the Hub."""
    if Path(name_or_path).is_dir():
        return _load_tower(str(Path(name_or_path).parent), Path(name_or_path).name, torch_dtype, {})
    parts = name_or_path.split("/")
    return _load_tower("/".join(parts[:2]), "/".join(parts[2:]), torch_dtype, {})


def _load_tower(
    location: str, subfolder: str, torch_dtype: torch.dtype | None, keywords: dict[str, Any]
) -> ImageEncoder:
    source = Source(location, **keywords)
    folder = _tower_folder(source, subfolder)
    if source.find(f"{subfolder}/model.safetensors") is None:
        index = source.find(f"{subfolder}/model.safetensors.index.json")
        for shard in () if index is None else read_index(index):
            source.find(f"{subfolder}/{shard}")
    return ImageEncoder(read_tower(folder, torch_dtype), _feature_extractor(location, subfolder, keywords))


def _tower_folder(source: Source, subfolder: str) -> Path:
    config = source.find(f"{subfolder}/config.json")
    if config is None:
        raise AdapterLoadError(f"{source.location} has no {subfolder}/config.json. Name a CLIP vision tower.")
    return config.parent


def _own_folder(source: Source, folder: str) -> str | None:
    """The tower's folder beside the adapter's config, or at the top of the source."""
    candidates = dict.fromkeys(("/".join(filter(None, (source.subfolder, folder))), folder))
    return next((name for name in candidates if source.find(f"{name}/config.json") is not None), None)


def _check_width(adapter: NestedAdapter, location: str, subfolder: str, keywords: dict[str, Any]) -> None:
    width = read_tower_config(_tower_folder(Source(location, **keywords), subfolder)).hidden_size
    if width != adapter.config["image_feature_dim"]:
        raise AdapterLoadError(
            f"The image encoder {location}/{subfolder} gives features of width {width}, the adapter reads "
            f"{adapter.config['image_feature_dim']}. Use the image encoder that the adapter was trained with."
        )


def _feature_extractor(location: str, subfolder: str, keywords: dict[str, Any]) -> CLIPImageProcessorPil:
    """The preprocessing stored beside the tower; CLIP's own where none is."""
    beside = "/".join([*subfolder.split("/")[:-1], "feature_extractor"])
    for folder in (beside, subfolder):
        found = Source(location, **keywords).find(f"{folder}/preprocessor_config.json")
        if found is not None:
            return read_processor(found)
    logger.info("no feature extractor beside %s/%s: using CLIP's", location, subfolder)
    return CLIPImageProcessorPil()
