"""Examples and captions as the frozen models encode them, in fp16, to be kept."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from .samples import RawExamples, SampleEncoder, check_finite

_CHUNK = 32  # examples per call of the models

_Item = TypeVar("_Item")
Encoded = dict[str, Tensor]
Advance = Callable[[int], object]


def encode_examples(
    raw: RawExamples, chosen: Sequence[int], encoder: SampleEncoder, advance: Advance = lambda count: None
) -> Encoded:
    """Encode these examples, without their captions.

    Args:
        raw: The training set.
        chosen: Numbers of N examples.
        encoder: Encodes them.
        advance: Is told how many more are done.

    Returns:
        ``latents``, all numbers of all N examples in a row, and their ``shapes``; ``frames`` (N, 6); ``features``
        (M, L, F) of their M subjects.
    """
    latents, features, frames = [], [], []
    for some in _chunks(chosen):
        pixels, _, subjects, told = zip(*(raw[i] for i in some), strict=True)
        own = _latents(pixels, encoder)
        features.append(_kept(encoder.frozen.features([photo for one in subjects for photo in one.values()])))
        check_finite({"latents": torch.cat([one.flatten() for one in own]), "features": features[-1]}, some)
        latents += own
        frames += told
        advance(len(some))
    return {
        "latents": torch.cat([one.flatten() for one in latents]),
        "shapes": torch.tensor([one.shape for one in latents]),
        "frames": torch.stack(frames),
        "features": torch.cat(features),
    }


def encode_captions(captions: Sequence[str], encoder: SampleEncoder, advance: Advance = lambda count: None) -> Encoded:
    """Embeddings of N captions: ``prompt_embeds`` (N, T, D) and ``pooled`` (N, P); P may be 0."""
    parts = []
    for some in _chunks(captions):
        parts.append(encoder.encode_captions(some))
        advance(len(some))
    embeds, pooled = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"prompt_embeds": _kept(embeds), "pooled": _kept(pooled)}


def _chunks(items: Sequence[_Item]) -> list[Sequence[_Item]]:
    return [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]


def _latents(pixels: Sequence[Tensor], encoder: SampleEncoder) -> list[Tensor]:
    """Latents of pictures, those of a size at once."""
    found: dict[int, Tensor] = {}
    for shape in dict.fromkeys(one.shape for one in pixels):
        chosen = [i for i, one in enumerate(pixels) if one.shape == shape]
        found |= zip(chosen, _kept(encoder.frozen.latents(torch.stack([pixels[i] for i in chosen]))), strict=True)
    return [found[i] for i in range(len(pixels))]


def _kept(x: Tensor) -> Tensor:
    return x.cpu().half()
