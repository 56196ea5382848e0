"""Peak memory of a piece of code: of the device for CUDA, of the process on Linux otherwise; or counted from shapes."""

import ctypes
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Within the ``with`` statement, the highest memory in use; afterwards in ``bytes``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes = 0

    def __enter__(self) -> "PeakMemory":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before goes back to the system
            _CLEAR.write_text("5")  # lets the kernel count the peak anew
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            self.bytes = int(line.split()[1]) * 1024


class CountedMemory(TorchDispatchMode):
    """Within the ``with`` statement, the most bytes of new tensors that are alive at a time; also of fake tensors.

    What a kernel takes for itself while it runs is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id_of(x) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **kwargs or {})
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and id_of(x) not in given | self._alive.keys():
                self._count(x.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        number = storage._cdata
        self._alive[number] = storage.nbytes()
        weakref.finalize(storage, self._alive.pop, number, None)
        self.bytes = max(self.bytes, sum(self._alive.values()))


def id_of(x: torch.Tensor) -> int:
    """A number of the tensor's memory, which views share."""
    return x.untyped_storage()._cdata
