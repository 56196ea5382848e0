"""What is kept of a call: running means, so that memory does not grow with the steps."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Key(NamedTuple):
    """Whose mean it is.

    Attributes:
        kind: ``"words"``, ``"tokens"``, ``"values"``, ``"word_entropy"`` or ``"token_entropy"``.
        place: The layer's path, or the size (h, w) of the maps of several layers.
        picture: Number of the picture.
        slot: Number of the subject in its prompt; -1 for what belongs to no subject.
        step: Number of the step; -1 for the mean of all steps.
    """

    kind: str
    place: str | tuple[int, int]
    picture: int
    slot: int = -1
    step: int = -1


class Mean:
    """A running mean of tensors."""

    def __init__(self) -> None:
        self.count = 0
        self.value = torch.empty(0)

    def add(self, x: Tensor) -> None:
        """Add a tensor."""
        self.count += 1
        if self.count == 1:
            self.value = x.clone()  # x may be a part of a large one
        else:
            self.value.lerp_(x, 1 / self.count)


class Kept:
    """The means of one call.

    Args:
        steps: Whether each step is kept apart, in main memory; otherwise all lies where it was computed.
    """

    def __init__(self, steps: bool = False) -> None:
        self._steps = steps
        self._means: dict[Key, Mean] = {}

    def add(self, key: Key, x: Tensor) -> None:
        """Add what has been seen in a step."""
        if self._steps:
            x = x.cpu()
        else:
            key = Key(*key[:4])
        self._means.setdefault(key, Mean()).add(x)

    def read(self, wanted: Callable[[Key], bool]) -> Iterator[tuple[Key, Tensor]]:
        """The keys that are wanted, of one step each, and their means on the CPU."""
        for key, mean in self._means.items():
            if wanted(key):
                yield key, mean.value.cpu()

    def __iter__(self) -> Iterator[Key]:
        """All keys."""
        return iter(list(self._means))

    def clear(self) -> None:
        """Keep nothing."""
        self._means.clear()

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(mean.value.numel() * mean.value.element_size() for mean in self._means.values())
