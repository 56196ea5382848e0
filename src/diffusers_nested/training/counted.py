"""Memory counted from shapes, without holding any of it."""

import weakref
from typing import Any

import torch

from ..compat import dispatch_mode, leaves, number_of


class CountedMemory(dispatch_mode()):
    """Within the ``with`` statement, the most bytes of new tensors that are alive at a time; also of fake tensors.

    What a kernel takes for itself while it runs is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._now = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_id_of(x) for x in leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **kwargs or {})
        for x in leaves(out):
            if isinstance(x, torch.Tensor) and _id_of(x) not in given | self._alive.keys():
                self._count(x.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        number = number_of(storage)
        self._alive[number] = storage.nbytes()
        self._now += storage.nbytes()
        weakref.finalize(storage, self._forget, number)
        self.bytes = max(self.bytes, self._now)

    def _forget(self, number: int) -> None:
        self._now -= self._alive.pop(number, 0)


def _id_of(x: torch.Tensor) -> int:
    """A number of the tensor's memory, which views share."""
    return number_of(x.untyped_storage())
