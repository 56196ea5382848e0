"""How long parts of a step take, without making the step wait for its device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Measures spans of work on a device.

    On CUDA, kernels run later than the code that starts them. There, the ends of a span are events that the device
    itself passes; they are read, and waited for, in ``take`` alone. Elsewhere a plain clock is read.

    Args:
        device: Where the work is done; events are recorded on its current stream.
        now: The plain clock, in seconds.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._mark: Callable[[], Any] = _passed if device.type == "cuda" else now
        self._spans: list[tuple[Any, Any]] = []

    @contextmanager
    def span(self) -> Iterator[None]:
        """Measure what happens inside the ``with`` statement, unless it raises."""
        start = self._mark()
        yield
        self._spans.append((start, self._mark()))

    def take(self) -> tuple[int, float]:
        """The number of spans since the last call, and their seconds together."""
        spans, self._spans = self._spans, []
        return len(spans), sum(_seconds(*span) for span in spans)


def _passed() -> torch.cuda.Event:
    """An event that the device passes after all work that it has been given so far."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(start: Any, end: Any) -> float:
    if isinstance(start, torch.cuda.Event):
        end.synchronize()
        return start.elapsed_time(end) / 1000
    return end - start
