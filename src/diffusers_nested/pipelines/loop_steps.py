"""How many steps a pipeline's loop takes, which pipelines say in different places, or too early."""

from typing import Any

from ..compat import announced_steps


class LoopSteps:
    """The steps of a pipeline's denoising loop.

    Args:
        pipeline: Any pipeline that adapters can act in.
        denoising_end: Of its call.

    Attributes:
        shown: The length of the pipeline's progress bar; None if it has not shown one yet.
    """

    def __init__(self, pipeline: Any, denoising_end: Any) -> None:
        self._pipeline = pipeline
        # as diffusers asks: any other value is no end
        self._ends_early = isinstance(denoising_end, float) and 0 < denoising_end < 1
        self.shown: int | None = None

    @property
    def has_several_loops(self) -> bool:
        """Whether the call denoises several times, as with FreeInit."""
        return bool(getattr(self._pipeline, "free_init_enabled", False))

    def total(self) -> int:
        """The number of steps of the present loop; known once it runs."""
        if self._ends_early and self.shown:
            # some pipelines say how many steps are left before they cut off those after the end; the bar is right
            return self.shown
        # pipelines that start on the way say how many steps are left to them; the others take them all
        return announced_steps(self._pipeline) or len(self._pipeline.scheduler.timesteps)
