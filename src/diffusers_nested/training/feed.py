"""The examples of a run, batch by batch: encoded on the fly, or once and cached."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import BucketOrder, EndlessOrder, ShardFolder, ShardOrder, Triplets, Words, each, largest_bucket
from .cache import encode_all, read_or_encode
from .config import TrainingConfig
from .samples import SampleEncoder, Samples, check_finite, collate


class Feed:
    """Examples for one process of a run; the seed and the number of a batch determine its examples.

    Args:
        triplets: The training set.
        encoder: Encodes them.
        config: Settings of the run.
        accelerator: Tells which process this is.
    """

    def __init__(self, triplets: Triplets, encoder: SampleEncoder, config: TrainingConfig, accelerator: Any) -> None:
        self._raw = encoder.raw(triplets)
        self._encoder = encoder
        self._config = config
        self._accelerator = accelerator

    def batches(self, first: int, stop: int) -> Iterator[Samples]:
        """The batches with these numbers."""
        order = self._order()
        if self._config.cache_features:
            cache = self._cache()
            return (cache.samples(order.batch(number)) for number in range(first, stop))
        loader = DataLoader(
            self._raw,
            batch_sampler=[order.batch(number) for number in range(first, stop)],
            num_workers=self._config.dataloader_num_workers,
            collate_fn=collate,
        )
        return (self._encoder.encode(*batch) for batch in loader)

    def held(self, triplets: Triplets | None) -> Samples:
        """A fixed batch of at least two examples, from these triplets or from the training set.

        With buckets, all are of the largest one.
        """
        raw = self._raw if triplets is None else self._encoder.raw(triplets)
        members = largest_bucket(raw.sizes)
        size = max(2, self._config.train_batch_size)
        order = EndlessOrder(len(members), size, ("held", self._config.seed), *self._share)
        chosen = [members[i] for i in order.batch(0)]
        samples = self._encoder.encode(*collate([raw[i] for i in chosen]))
        check_finite(vars(samples), chosen)
        return samples

    def _cache(self) -> "SampleCache":
        file, is_main = self._config.cache_file, self._accelerator.is_main_process
        words = [tuple(triplet.photos) for triplet in each(self._raw.triplets)]
        if file is None:
            return SampleCache(encode_all(self._raw, self._encoder, is_main), words, self._encoder)
        return SampleCache(read_or_encode(Path(file), self._raw, self._encoder, is_main), words, self._encoder)

    @property
    def _share(self) -> tuple[int, int]:
        return self._accelerator.process_index, self._accelerator.num_processes

    def _order(self) -> EndlessOrder | BucketOrder:
        size, seed = self._config.train_batch_size, ("train", self._config.seed)
        if self._config.aspect_ratio_buckets:
            return BucketOrder(self._raw.sizes, size, seed, *self._share)
        if isinstance(self._raw.triplets, ShardFolder):
            return ShardOrder(self._raw.triplets.counts, size, seed, *self._share)
        return EndlessOrder(len(self._raw), size, seed, *self._share)


class SampleCache:
    """All examples of a training set, encoded once and kept in memory in fp16; each caption is encoded once.

    Every process of a run has its own.

    Args:
        kept: From ``encode_all``.
        words: Of each example, the words of its subjects.
        encoder: Tells on which device the models are.
    """

    def __init__(self, kept: Mapping[str, Tensor], words: Sequence[Words], encoder: SampleEncoder) -> None:
        self._kept = kept
        self._words = words
        self._device = next(encoder.frozen.unet.parameters()).device
        self._ends = list(accumulate(map(len, words)))  # of the rows of each example's subjects
        self._shapes = kept["shapes"].tolist()
        self._firsts = [0, *accumulate(map(math.prod, self._shapes))]  # of each example's latents

    def samples(self, indices: Sequence[int]) -> Samples:
        """The examples with these indices, on the models' device in float32."""
        chosen = torch.tensor(indices)
        caption = self._kept["caption"][chosen]
        ends = [(self._ends[i], len(self._words[i])) for i in indices]
        subjects = torch.tensor([i for end, count in ends for i in range(end - count, end)])
        return Samples(
            latents=torch.stack([self._latents(i) for i in indices]).to(self._device).float(),
            prompt_embeds=self._ready("prompt_embeds", caption),
            pooled=self._ready("pooled", caption),
            positions=self._ready("positions", self._kept["word"][subjects]),
            features=self._ready("features", subjects),
            frames=self._ready("frames", chosen),
            words=tuple(self._words[i] for i in indices),
        )

    def _latents(self, index: int) -> Tensor:
        return self._kept["latents"][self._firsts[index] : self._firsts[index + 1]].view(self._shapes[index])

    def _ready(self, name: str, rows: Tensor) -> Tensor:
        return self._kept[name].index_select(0, rows).to(self._device).float()
