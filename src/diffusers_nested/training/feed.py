"""The examples of a run, batch by batch: encoded on the fly, or once and cached."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from ..data import BucketOrder, EndlessOrder, ShardFolder, ShardOrder, Triplets, largest_bucket
from .cache import Cache
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
            folder = self._config.cache_folder
            cache = Cache(self._raw, self._encoder, None if folder is None else Path(folder), self._accelerator)
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
