"""From a repository id or a folder to an adapter."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import nn

from ..errors import AdapterLoadError
from ..files import CONFIG_NAME, is_folder, shown
from ..files.damage import damaged_downloads
from ..files.source import Source, fetch_weights
from .files import Origin
from .model import NestedAdapter


def pin_adapter(source: Source) -> Source:
    """The source of an adapter at the commit that it is at now; only its config.json is read.

    Raises:
        AdapterLoadError: It cannot be read, or holds no configuration.
    """
    return source.pinned(source.within(CONFIG_NAME))


def load_adapter(
    source: Source,
    weight_name: str | None = None,
    variant: str | None = None,
    torch_dtype: torch.dtype | None = None,
    unet: nn.Module | None = None,
) -> NestedAdapter:
    """Load an adapter's configuration and weights.

    The configuration is checked, against the UNet too, before any weights are downloaded.

    Args:
        source: Where it is.
        weight_name: File of the weights, if not the one that diffusers writes.
        variant: Such as "fp16", for ``diffusion_pytorch_model.fp16.safetensors``.
        torch_dtype: Type of the weights; by default float32.
        unet: A UNet that it must fit.

    Raises:
        AdapterLoadError: Not an adapter, not a whole one, made for another UNet, or it cannot be read.
    """
    source = pin_adapter(source)
    folder = source.local_folder(source.within(CONFIG_NAME))
    with damaged_downloads(folder / (source.subfolder or "")):
        adapter = _load(source, folder, weight_name, variant, torch_dtype, unet)
    adapter.origin = Origin(source.location, source.subfolder, source.revision, source.is_folder)
    return adapter


def origin_of(adapter: NestedAdapter, **hub: Any) -> Source | None:
    """Where an adapter in memory was loaded from, and so where its image encoder is; None if it was made here.

    Args:
        adapter: The adapter.
        **hub: Keywords of ``Source``; a ``revision`` that is not None goes before the adapter's own.
    """
    origin = adapter.origin
    if origin is None or (origin.is_folder and not is_folder(origin.source)):
        return None
    hub = {**hub, "revision": hub.get("revision") or origin.revision}
    return Source(origin.source, origin.subfolder, on_hub=not origin.is_folder, **hub)


def _load(
    source: Source,
    folder: Path,
    weight_name: str | None,
    variant: str | None,
    torch_dtype: torch.dtype | None,
    unet: nn.Module | None,
) -> NestedAdapter:
    empty = NestedAdapter.from_config_file(folder / source.within(CONFIG_NAME), source.location)
    if unet is not None:
        empty.check_fits(unet)
    if weight_name is None:
        weights, index = (_with_variant(name, variant) for name in (SAFETENSORS_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))
        fetch_weights(source, source.subfolder, weights, index)
    elif not isinstance(weight_name, str) or source.find(source.within(weight_name)) is None:
        raise AdapterLoadError(
            f"{source.location} has no file {shown(weight_name)}. Name a .safetensors file that it has."
        )
    # everything is here: from now on it is a folder
    return NestedAdapter.from_pretrained(
        folder,
        subfolder=source.subfolder,
        weight_name=weight_name,
        variant=variant,
        torch_dtype=torch_dtype,
        unet=unet,
    )


def _with_variant(name: str, variant: str | None) -> str:
    """``model.safetensors`` → ``model.fp16.safetensors``, as diffusers names variants."""
    stem, _, suffix = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{suffix}"
