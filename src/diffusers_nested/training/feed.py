"""The examples of a run, batch by batch: encoded as they are needed, or once and kept."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data import EndlessOrder, Triplets
from .config import TrainingConfig
from .samples import RawExamples, SampleEncoder, Samples, collate

_CHUNK = 32  # examples that are encoded together for the cache


class Feed:
    """Examples for one process of a run; which ones follows from the seed and the number of the batch alone.

    Args:
        triplets: The training set.
        encoder: Encodes them.
        config: Settings of the run.
        accelerator: Tells which process this is.
    """

    def __init__(self, triplets: Triplets, encoder: SampleEncoder, config: TrainingConfig, accelerator: Any) -> None:
        self._triplets = triplets
        self._encoder = encoder
        self._config = config
        self._accelerator = accelerator

    def batches(self, first: int, stop: int) -> Iterator[Samples]:
        """The batches with these numbers."""
        order = self._order(self._triplets, "train", self._config.train_batch_size)
        if self._config.cache_features:
            cache = SampleCache(self._triplets, self._encoder, self._accelerator.is_main_process)
            return (cache.samples(order.batch(number)) for number in range(first, stop))
        loader = DataLoader(
            RawExamples(self._triplets, self._encoder.resolution),
            batch_sampler=[order.batch(number) for number in range(first, stop)],
            num_workers=self._config.dataloader_num_workers,
            collate_fn=collate,
        )
        return (self._encoder.encode(*batch) for batch in loader)

    def held(self, triplets: Triplets | None) -> Samples:
        """A fixed batch of these triplets, or of the training set; of two examples at least."""
        triplets = self._triplets if triplets is None else triplets
        chosen = self._order(triplets, "held", max(2, self._config.train_batch_size)).batch(0)
        raw = RawExamples(triplets, self._encoder.resolution)
        return self._encoder.encode(*collate([raw[i] for i in chosen]))

    def _order(self, triplets: Triplets, purpose: str, batch_size: int) -> EndlessOrder:
        process, count = self._accelerator.process_index, self._accelerator.num_processes
        return EndlessOrder(len(triplets), batch_size, (purpose, self._config.seed), process, count)


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


def _kept(x: Tensor) -> Tensor:
    return x.cpu().half()
