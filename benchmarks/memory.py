"""Peak memory of a piece of code: of the device for CUDA, of the process on Linux otherwise."""

import ctypes
from pathlib import Path
from types import TracebackType

import torch

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
