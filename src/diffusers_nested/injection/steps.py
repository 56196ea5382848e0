"""Which denoising step a call of the UNet belongs to, and whether a subject acts in it."""

from collections.abc import Callable, Sequence

from ..errors import SubjectError


class StepCounter:
    """Counts the steps of a pipeline's loop from outside.

    The loop hands one timestep object to all UNet calls of a step, so a step begins with a new object. Their
    values, which lie on the device, are never read.

    Args:
        total: Gives the number of steps of the loop; asked only once the loop runs.
        windows: Start and end of every subject.
        has_several_loops: Whether the call denoises several times, so that a subject may wait for a later time.
    """

    def __init__(
        self, total: Callable[[], int], windows: Sequence[tuple[float, float]], has_several_loops: bool = False
    ) -> None:
        self._total = total
        self._windows = set(windows)
        self._has_several_loops = has_several_loops
        self._unused = set(windows)
        self.restart()

    def restart(self) -> None:
        """Take note that a loop begins."""
        self._last: object = None
        self._step = -1

    def see(self, timestep: object) -> None:
        """Take note of a UNet call.

        Raises:
            SubjectError: There are too few steps for one of the subjects to act in any of them.
        """
        if self._step < 0:
            total = self._total()
            self._unused -= {one for one in self._windows if any(_lies_within(i, total, *one) for i in range(total))}
            if not self._has_several_loops:
                self.check_used()
        if timestep is not self._last:
            self._last, self._step = timestep, self._step + 1

    def within(self, start: float, end: float) -> bool:
        """Whether the present step lies between two parts of all steps, as ControlNet's guidance start and end."""
        total = self._total()
        step = self._step % total  # a loop that is run several times over starts anew
        return _lies_within(step, total, start, end)

    def check_used(self) -> None:
        """Raise unless every subject acts in a step of the loops so far.

        Raises:
            SubjectError: Names one that does not.
        """
        for start, end in sorted(self._unused):
            total = self._total()
            raise SubjectError(
                f"A subject with start={start} and end={end} acts in none of the {total} denoising steps. Each "
                f"step is {1 / total:.3f} of them; a step counts if it lies between start and end as a whole."
            )


def _lies_within(step: int, total: int, start: float, end: float) -> bool:
    slack = 1e-6  # 3/10 and 0.1 + 0.2 are the same part of the steps
    return step / total >= start - slack and (step + 1) / total <= end + slack
