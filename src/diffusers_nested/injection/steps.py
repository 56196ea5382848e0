"""Tells which denoising step a UNet call belongs to, and whether a subject acts in it."""

from collections.abc import Callable, Sequence

from ..errors import SubjectError


class StepCounter:
    """Counts the steps of a pipeline's loop from outside.

    The loop passes the same timestep object to all UNet calls of a step, so a new object means a new step. Their
    values are on the device and are never read.

    Args:
        total: Returns the number of steps of the loop; called only once the loop runs.
        windows: Start and end of every subject.
        has_several_loops: Whether the call denoises several times, so a subject may act in a later loop only.
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
        """Start counting a new loop."""
        self._last: object = None
        self._step = -1

    def see(self, timestep: object) -> None:
        """Count a UNet call.

        Raises:
            SubjectError: There are so few steps that one of the subjects acts in none of them.
        """
        if self._step < 0:
            total = self._total()
            self._unused -= {one for one in self._windows if any(_lies_within(i, total, *one) for i in range(total))}
            if not self._has_several_loops:
                self.check_used()
        if timestep is not self._last:
            self._last, self._step = timestep, self._step + 1

    def within(self, start: float, end: float) -> bool:
        """Whether the current step lies between two fractions of all steps, as with ControlNet's guidance."""
        total = self._total()
        step = self._step % total  # a loop that runs several times starts over
        return _lies_within(step, total, start, end)

    def check_used(self) -> None:
        """Raise unless every subject has had a step to act in.

        Raises:
            SubjectError: Names one that has not.
        """
        for start, end in sorted(self._unused):
            total = self._total()
            raise SubjectError(
                f"A subject with start={start} and end={end} acts in none of the {total} denoising steps. Each "
                f"step is {1 / total:.3f} of them and counts only if it lies entirely between start and end."
            )


def _lies_within(step: int, total: int, start: float, end: float) -> bool:
    slack = 1e-6  # 3/10 and 0.1 + 0.2 are the same fraction of the steps
    return step / total >= start - slack and (step + 1) / total <= end + slack
