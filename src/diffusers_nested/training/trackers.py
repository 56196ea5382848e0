"""The trackers of accelerate, such as TensorBoard and Weights & Biases, beside the run's own log."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import DependencyError, NestedAdapterError
from .config import TrainingConfig

_PROJECT = "diffusers-nested"
_FOLDER = "trackers"  # in output_dir, for trackers that write files


def tracker_options(config: TrainingConfig) -> dict[str, Any]:
    """Keywords of accelerate's ``Accelerator`` for the tracker of a run.

    Raises:
        NestedAdapterError: accelerate knows no tracker of this name.
        DependencyError: The tracker's package is not installed.
    """
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType, ProjectConfiguration

    name, known = config.log_with, [str(one) for one in LoggerType]
    if name is None:
        return {}
    if isinstance(name, str) and name not in known:
        raise NestedAdapterError(f"log_with must be a tracker of accelerate ({', '.join(known)}), got {name!r}.")
    if isinstance(name, str) and name not in ("all", *map(str, get_available_trackers())):
        raise DependencyError(f"log_with={name!r} needs a package that is not installed. Run: pip install {name}")
    project = ProjectConfiguration(project_dir=str(config.folder), logging_dir=str(config.folder / _FOLDER))
    return {"log_with": name, "project_config": project}


@contextmanager
def tracked(accelerator: Any, config: TrainingConfig) -> Iterator[None]:
    """Inside, ``accelerator.log`` reaches the tracker of the run, if it has one."""
    if config.log_with is not None:
        accelerator.init_trackers(_PROJECT, {name: _plain(value) for name, value in vars(config).items()})
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()  # end_training would also leave the group of processes, which a next run may need


def track(accelerator: Any, row: Mapping[str, float]) -> None:
    """Hand a row of the log to the tracker, if there is one."""
    accelerator.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))


def _plain(value: Any) -> Any:
    """A setting as trackers take it."""
    return value if isinstance(value, bool | int | float | str) else str(value)
