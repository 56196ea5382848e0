"""Checkpoints of a run: complete, finite, and numbered by step."""

import re
import shutil
from pathlib import Path
from typing import Any

from ..adapter import NestedAdapter
from ..errors import NestedAdapterError
from ..files.write_whole import sync_folder
from .finite import first_not_finite
from .folder import write_folder
from .state_files import DamagedFileError, load_state, save_state

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "state.pt"
_PARTIAL = ".partial"  # being written, or being deleted
_ASIDE = ".set-aside"  # of steps that will be repeated
_PARTS = {"step", "settings", "learner"}


def find_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and is_complete(path)]
    return sorted(found, key=step_of)


def is_complete(checkpoint: Path) -> bool:
    """Whether this is the folder of a complete checkpoint."""
    return (checkpoint / _STATE).is_file()


def step_of(checkpoint: Path) -> int:
    """The number of steps before a checkpoint was saved."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise NestedAdapterError(f"{checkpoint} is not named checkpoint-<step>. Name a checkpoint of a training run.")
    return int(match.group(1))


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], adapter: NestedAdapter) -> Path:
    """Save a checkpoint under a temporary name, and rename it once it is complete and on the disk.

    Args:
        folder: Of the run.
        step: Steps taken so far.
        state: What a resumed run needs.
        adapter: With the weights to publish; saved in the sub-folder ``adapter``.

    Raises:
        NestedAdapterError: It cannot be written; earlier checkpoints are unchanged.
    """
    path = folder / f"checkpoint-{step}"
    partial = folder / f"{path.name}{_PARTIAL}"
    write_folder(
        partial,
        lambda to: adapter.save_pretrained(to / "adapter"),
        lambda to: save_state(state, to / _STATE),
    )
    partial.rename(path)
    sync_folder(folder)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint to the CPU, checking all checksums.

    Raises:
        DamagedFileError: The file is cut off, not from ``save_checkpoint``, or holds NaN.
    """
    file = path / _STATE
    state = load_state(file)
    if not isinstance(state, dict) or state.keys() != _PARTS:
        raise DamagedFileError(f"{file} is not the state of a checkpoint of this version of the package.")
    name = first_not_finite(state)
    if name is not None:
        raise DamagedFileError(f"{file} is from a run that has diverged: {name} holds NaN or infinite values.")
    return state


def tidy(folder: Path, step: int) -> list[Path]:
    """Make room for the steps after this one.

    Later checkpoints, which are of another branch or damaged, are renamed. Leftovers of a killed run are deleted.

    Returns:
        The new names.
    """
    for path in folder.glob(f"checkpoint-*{_PARTIAL}"):
        shutil.rmtree(path)
    renamed = []
    for path in folder.glob("checkpoint-*"):
        if _NAME.fullmatch(path.name) and step_of(path) > step:
            aside = path.with_name(f"{path.name}{_ASIDE}")
            _delete(aside)
            renamed.append(path.rename(aside))
    return renamed


def limit_checkpoints(folder: Path, limit: int | None) -> None:
    """Delete the oldest checkpoints beyond the limit."""
    if limit is not None:
        for path in find_checkpoints(folder)[:-limit]:
            _delete(path)


def _delete(path: Path) -> None:
    """Delete a checkpoint; it stops being one before its first file is gone."""
    if path.exists():
        shutil.rmtree(path.rename(path.with_name(f"{path.name}{_PARTIAL}")))
