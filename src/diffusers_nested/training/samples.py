"""Examples as the training step needs them: encoded, in batches, in the order of the run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data import Triplets, load_image, to_pixels
from .frozen import FrozenModels

_CHUNK = 32  # examples that are encoded together for the cache


@dataclass(frozen=True, eq=False)
class Samples:
    """B encoded examples.

    Attributes:
        latents: Of the targets, (B, C, r, r).
        prompt_embeds: (B, T, D).
        pooled: (B, P).
        positions: (B, T), 1 at the subject's word and 0 elsewhere.
        features: Of the input images, (B, L, F).
    """

    latents: Tensor
    prompt_embeds: Tensor
    pooled: Tensor
    positions: Tensor
    features: Tensor


class SampleEncoder:
    """Encodes raw examples.

    Args:
        frozen: The models.
        positions: Caption -> positions of the subject's word.
        resolution: Side of the targets.
    """

    def __init__(self, frozen: FrozenModels, positions: dict[str, tuple[int, ...]], resolution: int) -> None:
        self.frozen = frozen
        self.resolution = resolution
        self._positions = positions

    def encode(self, pixels: Tensor, captions: Sequence[str], images: Sequence[Any]) -> Samples:
        """Encode targets (B, 3, R, R), captions and input images."""
        features = self.frozen.features(images).float()
        return Samples(self.frozen.latents(pixels), *self.encode_captions(captions), features)

    def encode_captions(self, captions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, T, D) and (B, P) of captions, and the positions (B, T) of the subject's word."""
        embeds, pooled = (x.float() for x in self.frozen.prompts(captions))
        positions = torch.zeros(embeds.shape[:2])
        for row, caption in enumerate(captions):
            positions[row, list(self._positions[caption])] = 1
        return embeds, pooled, positions.to(embeds.device)


class SampleCache:
    """All examples of a training set, encoded once and kept in memory in fp16; captions once each.

    Every process of a run keeps one of its own.
    """

    def __init__(self, triplets: Triplets, encoder: SampleEncoder, show_progress: bool = False) -> None:
        self._device = next(encoder.frozen.unet.parameters()).device
        raw = RawExamples(triplets, encoder.resolution)
        latents, features, captions = [], [], []
        chunks = range(0, len(raw), _CHUNK)
        for first in tqdm(chunks, desc="Caching features", disable=not show_progress):
            part = collate([raw[i] for i in range(first, min(first + _CHUNK, len(raw)))])
            latents.append(_kept(encoder.frozen.latents(part[0])))
            captions += part[1]
            features.append(_kept(encoder.frozen.features(part[2])))
        self._latents, self._features = torch.cat(latents), torch.cat(features)
        distinct = list(dict.fromkeys(captions))
        row = {caption: i for i, caption in enumerate(distinct)}
        self._caption = torch.tensor([row[caption] for caption in captions])
        parts = [encoder.encode_captions(distinct[i : i + _CHUNK]) for i in range(0, len(distinct), _CHUNK)]
        self._prompts = [_kept(torch.cat(column)) for column in zip(*parts, strict=True)]

    def samples(self, indices: Sequence[int]) -> Samples:
        """The examples with these indices, on the models' device in float32."""
        chosen = torch.tensor(indices)
        embeds, pooled, positions = (self._ready(x, self._caption[chosen]) for x in self._prompts)
        return Samples(
            self._ready(self._latents, chosen), embeds, pooled, positions, self._ready(self._features, chosen)
        )

    def _ready(self, kept: Tensor, rows: Tensor) -> Tensor:
        return kept.index_select(0, rows).to(self._device).float()


class RawExamples(Dataset[tuple[Tensor, str, Any]]):
    """Triplets with their images opened: (target pixels, caption, input image)."""

    def __init__(self, triplets: Triplets, resolution: int) -> None:
        self._triplets = triplets
        self._resolution = resolution

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self._triplets)

    def __getitem__(self, index: int, /) -> tuple[Tensor, str, Any]:
        """One triplet, opened."""
        triplet = self._triplets[index]
        return to_pixels(triplet.target_image, self._resolution), triplet.text, load_image(triplet.input_image)


def collate(examples: Sequence[tuple[Tensor, str, Any]]) -> tuple[Tensor, list[str], list[Any]]:
    """Examples as a batch: stacked pixels (B, 3, R, R), captions, input images."""
    pixels, captions, images = zip(*examples, strict=True)
    return torch.stack(pixels), list(captions), list(images)


def read_samples(
    triplets: Triplets, encoder: SampleEncoder, batches: Callable[[], Iterator[list[int]]], workers: int = 0
) -> Iterator[Samples]:
    """Read and encode batches as they are needed."""
    loader = DataLoader(
        RawExamples(triplets, encoder.resolution),
        batch_sampler=_Batches(batches),
        num_workers=workers,
        collate_fn=collate,
    )
    return (encoder.encode(*batch) for batch in loader)


class _Batches:
    """Batches of indices as DataLoader wants them: an object that can be iterated over."""

    def __init__(self, make: Callable[[], Iterator[list[int]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[list[int]]:
        return self._make()


def _kept(x: Tensor) -> Tensor:
    return x.cpu().half()
