"""From a subject's images to what the layers read, once per call."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter.checks import check_projected
from ..compat import execution_device
from ..errors import SubjectError
from ..injection import BoundSubject, Dial
from ..mechanisms import get_mechanism
from ..subjects import ResolvedSubject
from ..vision import check_encoded
from .state import NestedState


@torch.no_grad()
def bind_subject(pipeline: Any, state: NestedState, subject: ResolvedSubject) -> BoundSubject:
    """Encode a subject's images and project its tokens for every layer.

    Raises:
        NestedAdapterError: The images cannot be encoded, or what the layers would read is not finite.
    """
    name = subject.adapter_name
    adapter, unet = state.adapters[name], pipeline.unet
    device = execution_device(pipeline)
    embeds = encode_images(pipeline, state, name, subject.images) if subject.embeds is None else subject.embeds
    with _on_device(adapter, device, unet):
        # Photos of one subject: their tokens one after another, (images, N, D) -> (1, images · N, D) (section 5.2)
        tokens = embeds.to(device, adapter.dtype).flatten(0, 1)[None]
        projected = {path: tuple(x.to(unet.dtype) for x in read) for path, read in adapter.project(tokens).items()}
    check_projected(projected)
    dials: Mapping[str, Dial] = state.dials[name]
    if subject.scale is not None:
        # one each, as for an adapter: a compiled UNet would have to be compiled anew for a dial that layers share
        dials = {path: Dial(subject.scale) for path in dials}
    is_weighted, is_masked = subject.image_weights is not None, subject.mask is not None
    return BoundSubject(
        projected,
        dials,
        alpha=adapter.config["alpha"],
        log_weights=_log_weights(subject.image_weights, embeds.shape[1], device),
        mechanism=get_mechanism(adapter.config["mechanism"]),
        mask=None if subject.mask is None else subject.mask.to(device),
        steps=subject.steps,
        kind=(name, subject.scale, tokens.shape[1], is_weighted, is_masked, subject.steps),
    )


@torch.no_grad()
def encode_images(pipeline: Any, state: NestedState, name: str, images: Sequence[Any]) -> Tensor:
    """Subject tokens of images, (images, N, token_dim).

    Raises:
        SubjectError: The adapter was loaded without an image encoder.
        NestedAdapterError: The image encoder or the adapter gives NaN or infinite values.
    """
    adapter, encoder = state.require(name), state.encoders[name]
    if encoder is None:
        raise SubjectError(
            f"The adapter {name!r} was loaded without an image encoder. Give `nested_adapter_image_embeds`, or load "
            "it without image_encoder_folder=None."
        )
    device = execution_device(pipeline)
    with _on_device(encoder.model, device, pipeline.unet):
        features = encoder(images)
    with _on_device(adapter, device, pipeline.unet):
        tokens = adapter.encode(features.to(device, adapter.dtype))
    check_encoded(tokens, features)
    return tokens


@contextmanager
def _on_device(module: Any, device: torch.device, unet: nn.Module) -> Iterator[None]:
    """A module on the device, where it stays for the next call unless the UNet is being offloaded."""
    home = module.device
    module.to(device)
    try:
        yield
    finally:
        if next(unet.parameters()).device != device:
            module.to(home)


def _log_weights(weights: Sequence[float] | None, tokens_per_image: int, device: torch.device) -> Tensor | None:
    """(images,) weights -> (images · N,) log-weights; −∞ for an image that takes no part."""
    if weights is None:
        return None
    return torch.tensor(weights, device=device).log().repeat_interleave(tokens_per_image)
