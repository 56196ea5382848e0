"""Adapters as the nodes hand them on: loaded, with the vision tower that reads their photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError, SubjectError
from diffusers_nested.adapter.locate import named_source
from diffusers_nested.mechanisms import get_mechanism
from diffusers_nested.pipelines.loaded import LoadedAdapter
from diffusers_nested.pipelines.loading import load_encoder
from diffusers_nested.pipelines.photo_warnings import warn_of_photos
from diffusers_nested.vision import OWN_FOLDER, ImageEncoder, ImageEncoders

from .layers import Layer, check_fits
from .runtime import Computer, make_room

_MOST = 2.0  # upscalers and sharpening overshoot 1, but not by so much


@dataclass(frozen=True, eq=False)
class Photos:
    """Photos of one subject.

    Attributes:
        images: Each (C, H, W), from 0 to 1.
        weights: How much each counts; None for equal parts.
    """

    images: tuple[Tensor, ...]
    weights: tuple[float, ...] | None = None

    @classmethod
    def of_batch(cls, images: Tensor) -> "Photos":
        """The photos of ComfyUI's batch (B, H, W, C).

        Raises:
            SubjectError: It is empty, or has values far beyond 0 and 1.
        """
        if images.ndim != 4 or 0 in images.shape:
            raise SubjectError(f"image has shape {tuple(images.shape)}, expected (photos, height, width, channels).")
        most = float(images.abs().max())
        if most > _MOST:  # not so for NaN, which is refused with the photo's number later
            raise SubjectError(f"image has values up to {most:g}, expected 0 to 1, as ComfyUI's images have. Scale it.")
        return cls(tuple(images.movedim(-1, 1).float().clamp(0, 1)))

    def with_photos(self, other: "Photos") -> "Photos":
        """These photos and others, each with its weight."""
        both = [one.weights or (1.0,) * len(one.images) for one in (self, other)]
        return Photos(self.images + other.images, (*both[0], *both[1]))


@dataclass(frozen=True, eq=False)
class AdapterFiles:
    """An adapter with its vision tower, for any model that it fits.

    Attributes:
        name: What it is called in messages.
        adapter: The adapter.
        encoder: What it reads photos with.
        encoder_names: Where its vision towers come from.
    """

    name: str
    adapter: NestedAdapter
    encoder: ImageEncoder | ImageEncoders
    encoder_names: tuple[str, ...]

    def for_layers(self, layers: Mapping[str, Layer]) -> LoadedAdapter:
        """The adapter for a model with these layers.

        Raises:
            AdapterLoadError: It does not fit.
        """
        config = self.adapter.config
        check_fits(config, layers)
        heads = {path: layer.heads for path, layer in layers.items()}
        acting = get_mechanism(config["mechanism"]), config["alpha"]
        word = config["subject_token"]
        return LoadedAdapter(self.name, self.adapter, self.encoder, self.encoder_names, word, *acting, heads)


def load_files(
    name: str, known: Mapping[str, Path], repository: str, image_encoder: str, dtype: torch.dtype
) -> AdapterFiles:
    """Load an adapter from one of the known folders, or from the Hub.

    Args:
        name: Of a known folder; counts only without a repository.
        known: Folders by name.
        repository: A repository on the Hub, ``user/name`` or ``user/name/sub/folder``, a folder, or the file of an
            IP-Adapter in one of these.
        image_encoder: The folder of the vision tower there; empty for its usual place.
        dtype: Of the weights.

    Raises:
        AdapterLoadError: There is no such adapter, or it acts in a way that ComfyUI's patches cannot.
    """
    repository = repository.strip()
    if not repository and name not in known:
        raise AdapterLoadError(
            f"There is no adapter {name!r}; found are {', '.join(known) or 'none'}. Put the adapter's folder, with its "
            "config.json, into ComfyUI/models/nested_adapters, or give its repository on the Hub as repository."
        )
    # tensors of inference mode could not be moved to other devices later
    with torch.inference_mode(False), torch.no_grad():
        source, file = named_source(repository or known[name])
        adapter = NestedAdapter.from_any_source(source, file, torch_dtype=dtype).requires_grad_(False)
        _check_can_act(adapter)
        assert adapter.origin is not None  # it has just been loaded
        source = replace(source, revision=adapter.origin.revision)
        encoder, names = load_encoder(adapter, source, image_encoder.strip() or OWN_FOLDER, dtype, {})
    return AdapterFiles(repository or name, adapter, encoder, names)


@torch.no_grad()
def read_photos(loaded: LoadedAdapter, photos: Photos, device: torch.device) -> Tensor:
    """Subject tokens of photos, (photos, N, token_dim), on the CPU."""
    warn_of_photos(loaded.name, loaded.adapter.config, photos.images)
    assert loaded.encoder is not None  # of AdapterFiles
    make_room([loaded.adapter, *(part.model for part in loaded.encoder.parts)], device)
    with torch.inference_mode(False):
        images = [image.clone() for image in photos.images]  # not of inference mode
        return loaded.encode(Computer(device, loaded.adapter.dtype), images).cpu()


def _check_can_act(adapter: Any) -> None:
    mechanism = get_mechanism(adapter.config["mechanism"])
    if mechanism.projection is None or mechanism.reads_empty_image:
        raise NestedAdapterError(
            f"The adapter acts by the mechanism {mechanism.name!r}, which is not there in ComfyUI. Use it with "
            "diffusers; ComfyUI has nodes of its own for IP-Adapters."
        )
    if adapter.needs_base:
        raise NestedAdapterError(
            "The adapter's projections are a small addition to those of its base model, which is not there yet in "
            "ComfyUI. Make them dense with NestedAdapter.from_unet(unet, start_from=..., projection_rank=None), and "
            "save that."
        )


def check_alone(photos: Sequence[Any]) -> None:
    """Raise unless exactly one of a node's inputs for photos is connected.

    Raises:
        NestedAdapterError: None or both are.
    """
    given = [one for one in photos if one is not None]
    if len(given) != 1:
        raise NestedAdapterError(
            f"{'Both' if given else 'Neither'} image {'and' if given else 'nor'} photos of 'Apply Nested Adapter' "
            f"{'are' if given else 'is'} connected. Connect a batch of images to image, or the output of 'Blend Nested "
            "Adapter Photos' to photos."
        )
