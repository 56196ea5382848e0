"""One process, or several that share the work under ``accelerate launch``."""

from datetime import timedelta
from typing import Any

import torch

from ..environment.processes import join_processes, launched_processes

_PATIENCE = timedelta(days=7)  # how long processes wait for each other


class Processes:
    """Tells which of several processes this is; there is only one unless accelerate launched more.

    Attributes:
        index: Number of this process.
        count: How many there are.
    """

    def __init__(self, device: str | None = None) -> None:
        self._state: Any = join_processes(device == "cpu", _PATIENCE) if launched_processes() > 1 else None
        self.index: int = 0 if self._state is None else self._state.process_index
        self.count: int = 1 if self._state is None else self._state.num_processes
        self._device = device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes what exists once."""
        return self.index == 0

    @property
    def device(self) -> str:
        """Device of this process."""
        if self._device is not None and (self._state is None or self._device != "cuda"):
            return self._device
        if self._state is not None:
            # "cpu:0" is what tensors call "cpu"
            return "cpu" if self._state.device.type == "cpu" else str(self._state.device)
        return "cuda" if torch.cuda.is_available() else "cpu"

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes."""
        if self._state is not None:
            self._state.destroy_process_group()
