"""Buckets of aspect ratios: targets keep their form, and the pictures of a batch have one size."""

import math
from collections.abc import Hashable, Sequence

import torch

from .order import EndlessOrder, seeded_generator

Size = tuple[int, int]  # height and width in pixels


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """Sizes of about resolution² pixels and never more, from 1:4 to 4:1, in multiples of ``step``.

    For every shorter side from half the resolution up, the longer one is as long as it can be.
    """
    first = math.ceil(resolution / 2 / step) * step
    shapes = [(short, resolution**2 // short // step * step) for short in range(first, resolution + 1, step)]
    return sorted({shape for short, long in shapes for shape in ((short, long), (long, short))})


def nearest_size(sizes: Sequence[Size], height: int, width: int) -> Size:
    """The size whose aspect ratio is nearest to that of a picture."""
    return min(sizes, key=lambda size: abs(math.log(size[0] * width / (size[1] * height))))


class BucketOrder:
    """Batches of indices, each within one bucket; a pure function of the seed and the batch's number.

    Every bucket is read in permutations of its own, one after another. Batches are always full: what is left at the end
    of a permutation begins a batch with the next one. So all examples are seen as often, and a bucket of a single
    example gives a batch, of that example alone, once in ``batch_size`` rounds.

    Args:
        sizes: Of every example; those of one size are a bucket.
        batch_size: Examples in a batch.
        seed: As for ``EndlessOrder``.
        process_index: Which of several processes this is; all have the same number of batches.
        num_processes: How many processes share the training set.
    """

    def __init__(
        self,
        sizes: Sequence[Size],
        batch_size: int,
        seed: Hashable,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        members: dict[Size, list[int]] = {}
        for index, size in enumerate(sizes):
            members.setdefault(size, []).append(index)
        self._members = [members[size] for size in sorted(members)]
        self._orders = [
            EndlessOrder(len(some), batch_size, (seed, bucket)) for bucket, some in enumerate(self._members)
        ]
        self._total, self._batch_size, self._seed = len(sizes), batch_size, seed
        self._process, self._processes = process_index, num_processes
        self._round, self._drawn = -1, [0]

    def batch(self, number: int) -> list[int]:
        """Indices of the batch with this number."""
        place = number * self._processes + self._process
        current = place * self._batch_size // self._total
        while sum(self._before(current + 1)) <= place:
            current += 1
        before = self._before(current)
        drawn = self._buckets_of(current)[: place - sum(before) + 1]
        bucket = drawn[-1]
        chosen = self._orders[bucket].batch(before[bucket] + drawn.count(bucket) - 1)
        return [self._members[bucket][i] for i in chosen]

    def _before(self, current: int) -> list[int]:
        """How many batches each bucket has given before a round; a round sees every example once, up to a batch."""
        return [current * len(some) // self._batch_size for some in self._members]

    def _buckets_of(self, current: int) -> list[int]:
        """The buckets of a round's batches, shuffled."""
        if current != self._round:
            ends = zip(self._before(current), self._before(current + 1), strict=True)
            buckets = [bucket for bucket, (first, end) in enumerate(ends) for _ in range(end - first)]
            shuffled = torch.randperm(len(buckets), generator=seeded_generator("buckets", self._seed, current))
            self._round, self._drawn = current, [buckets[i] for i in shuffled.tolist()]
        return self._drawn


def largest_bucket(sizes: Sequence[Size]) -> list[int]:
    """The indices of the examples of the most frequent size; of equally frequent ones, the smallest."""
    size = max(sorted(set(sizes)), key=list(sizes).count)
    return [index for index, one in enumerate(sizes) if one == size]
