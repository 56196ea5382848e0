"""How many steps a pipeline's loop takes, which pipelines say in different places, or too early."""

from typing import Any

from ..compat import announced_steps


def count_steps(pipeline: Any, denoising_end: Any, shown: int | None) -> int:
    """The number of steps of the present loop; known once it runs.

    Args:
        pipeline: Any pipeline that adapters can act in.
        denoising_end: Of its call.
        shown: The length of the pipeline's progress bar; None if it has not shown one yet.
    """
    # as diffusers asks: any other value is no end
    if shown and isinstance(denoising_end, float) and 0 < denoising_end < 1:
        # some pipelines say how many steps are left before they cut off those after the end; the bar is right
        return shown
    # pipelines that start on the way say how many steps are left to them; the others take them all
    return announced_steps(pipeline) or len(pipeline.scheduler.timesteps)


def has_several_loops(pipeline: Any) -> bool:
    """Whether a call denoises several times, as with FreeInit."""
    return bool(getattr(pipeline, "free_init_enabled", False))
