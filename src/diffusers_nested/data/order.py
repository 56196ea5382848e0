"""The order of a training set, as a pure function of the seed and the step.

Nothing is remembered between steps, so a resumed run needs no state of a random generator and skips no data.
"""

import hashlib
from collections.abc import Hashable, Sequence
from itertools import accumulate

import torch


def seeded_generator(*key: Hashable) -> torch.Generator:
    """A generator on the CPU whose numbers depend on the key alone; different keys give unrelated numbers."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


class EndlessOrder:
    """Batches of indices: every epoch is a new permutation, and batches continue across its end.

    Args:
        length: Examples in the training set.
        batch_size: Examples in a batch.
        seed: Seed of the run, or a tuple of numbers and words.
        process_index: Which of several processes this is.
        num_processes: How many processes share the training set; their batches do not overlap within an epoch.
    """

    def __init__(
        self, length: int, batch_size: int, seed: Hashable, process_index: int = 0, num_processes: int = 1
    ) -> None:
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._process = process_index
        self._processes = num_processes
        self._epoch = -1
        self._permutation: list[int] = []

    def batch(self, number: int) -> list[int]:
        """Indices of the batch with this number."""
        first = (number * self._processes + self._process) * self._batch_size
        return [self._index(position) for position in range(first, first + self._batch_size)]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self._length)
        if epoch != self._epoch:
            self._permutation = self._permuted(seeded_generator("order", self._seed, epoch))
            self._epoch = epoch
        return self._permutation[place]

    def _permuted(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(self._length, generator=generator).tolist()


class ShardOrder(EndlessOrder):
    """Batches of indices that read one shard after another.

    Every epoch shuffles the shards, and the examples within each. All processes read the same shard at the same time,
    each its own examples of it.

    Args:
        counts: Examples in each shard.
        batch_size: As for ``EndlessOrder``, like the rest.
        seed: The same.
        process_index: The same.
        num_processes: The same.
    """

    def __init__(
        self, counts: Sequence[int], batch_size: int, seed: Hashable, process_index: int = 0, num_processes: int = 1
    ) -> None:
        super().__init__(sum(counts), batch_size, seed, process_index, num_processes)
        self._counts = counts

    def _permuted(self, generator: torch.Generator) -> list[int]:
        firsts = [0, *accumulate(self._counts)]
        shards = torch.randperm(len(self._counts), generator=generator).tolist()
        within = [torch.randperm(count, generator=generator).tolist() for count in self._counts]
        return [firsts[shard] + place for shard in shards for place in within[shard]]
