"""How many steps a pipeline's loop takes: pipelines tell in different places, and some too early."""

from typing import Any

from ..compat import announced_steps


def count_steps(pipeline: Any, denoising_end: Any, shown: int | None) -> int:
    """The number of steps of the current loop; known once it runs.

    Args:
        pipeline: Any supported pipeline.
        denoising_end: The call's argument of that name.
        shown: The length of the pipeline's progress bar; None before it is shown.
    """
    # the same test as in diffusers: other values have no effect
    if shown and isinstance(denoising_end, float) and 0 < denoising_end < 1:
        # some pipelines announce their steps before they cut off the last steps; the bar is right
        return shown
    # pipelines that skip the first steps announce the rest; the others take all of the scheduler's
    return announced_steps(pipeline) or len(pipeline.scheduler.timesteps)


def has_several_loops(pipeline: Any) -> bool:
    """Whether a call denoises several times, as with FreeInit."""
    return bool(getattr(pipeline, "free_init_enabled", False))
