"""Checkpoints of a run: complete or absent, numbered by step."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ..adapter import NestedAdapter
from ..errors import NestedAdapterError

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "state.pt"


def find_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and (path / _STATE).is_file()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was saved."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise NestedAdapterError(f"{checkpoint} is not named checkpoint-<step>. Name a checkpoint of a training run.")
    return int(match.group(1))


def choose_checkpoint(folder: Path, resume_from: str | Path | None) -> Path | None:
    """The checkpoint to go on from, if any.

    Args:
        folder: Of the run.
        resume_from: A checkpoint, "latest", or None.

    Raises:
        NestedAdapterError: It does not exist or is not complete; or none is asked for although there are some,
            which a new run would mix with its own.
    """
    present = find_checkpoints(folder)
    if resume_from is None:
        if present:
            raise NestedAdapterError(
                f"{folder} holds {len(present)} checkpoints of an earlier run, the last {present[-1].name}. Go on from "
                "it with resume_from_checkpoint='latest', or choose another output_dir."
            )
        return None
    if resume_from == "latest":
        return present[-1] if present else None
    path = Path(resume_from)
    path = path if path.exists() else folder / path
    if not (path / _STATE).is_file():
        names = ", ".join(one.name for one in present) or "none"
        raise NestedAdapterError(f"{resume_from} is not a complete checkpoint. Complete ones in {folder}: {names}.")
    return path


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], adapter: NestedAdapter) -> Path:
    """Save a checkpoint under a temporary name, and give it its own when it is whole.

    Args:
        folder: Of the run.
        step: Steps taken so far.
        state: What is needed to go on.
        adapter: As it would be published now; saved in the sub-folder ``adapter``.
    """
    path = folder / f"checkpoint-{step}"
    partial = folder / f"{path.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    adapter.save_pretrained(partial / "adapter")
    torch.save(state, partial / _STATE)
    shutil.rmtree(path, ignore_errors=True)  # there is one if the run was resumed from before it
    partial.rename(path)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU."""
    return torch.load(path / _STATE, map_location="cpu", weights_only=True)


def check_same_run(checkpoint: Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise if a checkpoint cannot be gone on from with these settings.

    Raises:
        NestedAdapterError: Names those that differ.
    """
    changed = [f"{name} was {saved[name]!r}, now {given[name]!r}" for name in given if saved[name] != given[name]]
    if changed:
        raise NestedAdapterError(
            f"{checkpoint} is of a run with other settings: {'; '.join(changed)}. Use the same, or start a new run in "
            "another output_dir."
        )


def limit_checkpoints(folder: Path, limit: int | None) -> None:
    """Delete the oldest checkpoints beyond the limit."""
    if limit is not None:
        for path in find_checkpoints(folder)[:-limit]:
            shutil.rmtree(path)
