"""Where a run starts: at the beginning, or at a checkpoint of the same run."""

import json
import logging
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from ..files.limits import MAX_TOWERS
from ..files.write_whole import write_whole
from ..vision import numbered
from .checkpoints import find_checkpoints, is_complete, load_checkpoint, tidy
from .config import MAY_CHANGE, NOT_OF_A_RUN, TrainingConfig
from .folder import holds_adapter, set_adapter_aside
from .state_files import DamagedFileError

logger = logging.getLogger(__name__)

Changes = dict[str, tuple[Any, Any]]
_GONE = "not there"
_DEFAULTS = {one.name: one.default for one in fields(TrainingConfig) if one.name not in NOT_OF_A_RUN}
_TOWERS = [numbered("image_encoder", number + 1) for number in range(MAX_TOWERS)]
_MODELS = ("unet", "vae", "text_encoder", "text_encoder_2", *_TOWERS)


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        step: Steps taken so far.
        learner: State of the learner after them; None at the beginning.
        changes: Setting -> (old, new), for the settings that change here.
        checkpoint: Source of the state.
    """

    step: int = 0
    learner: dict[str, Any] | None = None
    changes: Changes = field(default_factory=dict)
    checkpoint: Path | None = None


def find_start(folder: Path, resume_from: str | Path | None, settings: dict[str, Any]) -> Start:
    """Find where a run with these settings starts; writes nothing.

    Args:
        folder: Of the run.
        resume_from: A checkpoint, "latest", or None.
        settings: See ``settings_of``.

    Raises:
        NestedAdapterError: The checkpoint does not exist, is damaged or belongs to another run; or a new run
            would start among checkpoints.
    """
    checkpoint, state = read_start(folder, resume_from)
    if checkpoint is None or state is None:
        return Start()
    step, most = state["step"], settings["max_train_steps"]
    if step > most:
        raise NestedAdapterError(
            f"max_train_steps is {most}, but {checkpoint} has taken {step} steps already. Raise it, or resume from an "
            "earlier checkpoint."
        )
    return Start(step, state["learner"], check_same_run(checkpoint, state["settings"], settings), checkpoint)


def take_up(config: TrainingConfig, start: Start) -> None:
    """Prepare the folder for the next steps, and log the settings that change."""
    if start.step < config.max_train_steps:
        earlier = set_adapter_aside(config.folder)
        if earlier is not None:
            logger.info("The adapter of the run that goes on is in %s now.", earlier)
    path = config.folder / "training_config.json"
    write_whole(path, json.dumps(vars(config), indent=2, default=str) + "\n")
    for aside in tidy(config.folder, start.step):
        logger.warning("%s is of steps that will be repeated. Delete it if you do not need it.", aside)
    if start.checkpoint is None:
        return
    logger.info("Resumed from %s", start.checkpoint)
    if start.changes:
        logger.info(
            "Changed: %s", "; ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in start.changes.items())
        )


def check_same_run(checkpoint: Path, saved: dict[str, Any], given: dict[str, Any]) -> Changes:
    """Settings that differ from a checkpoint's, and may.

    Raises:
        NestedAdapterError: Settings differ that may not, as they would change the steps; names all of them.
    """
    # settings that are newer than the checkpoint
    saved = {**{name: value for name, value in _DEFAULTS.items() if name in given}, **saved}
    precision = given["mixed_precision"]
    names = list(dict.fromkeys([*given, *saved]))
    pairs = {name: tuple(_value(one.get(name, _GONE), precision) for one in (saved, given)) for name in names}
    changed = {name: (old, new) for name, (old, new) in pairs.items() if old != new}
    refused = [f"{name} was {old!r}, now {new!r}" for name, (old, new) in changed.items() if name not in MAY_CHANGE]
    if refused:
        hint = " A model that an earlier run of this process has cast must be loaded again."
        raise NestedAdapterError(
            f"{checkpoint} is of a run with other settings: {'; '.join(refused)}. Use the same, or start a new run in "
            f"another output_dir.{hint if any(name in changed for name in _MODELS) else ''}"
        )
    return changed


def _value(value: Any, precision: str) -> Any:
    """The value of a setting; for a model, the digest for the precision in use."""
    return value.get(precision, value) if isinstance(value, dict) else value


def read_start(folder: Path, resume_from: str | Path | None) -> tuple[Path | None, dict[str, Any] | None]:
    """The checkpoint that a run starts from, and its state; None for both at the beginning.

    Raises:
        NestedAdapterError: The checkpoint does not exist or is damaged; or a new run would start among checkpoints.
    """
    present = find_checkpoints(folder)
    if not present and resume_from in (None, "latest") and holds_adapter(folder):
        raise NestedAdapterError(
            f"{folder} holds an adapter, for example of a finished run, but no checkpoint to resume from; training "
            "would overwrite it. Move it away, or choose another output_dir."
        )
    if resume_from == "latest":
        return _read_latest(present)
    if resume_from is not None:
        path = _named(folder, resume_from, present)
        return path, load_checkpoint(path)
    if present:
        raise NestedAdapterError(
            f"{folder} holds {len(present)} checkpoints of an earlier run, the last one {present[-1].name}. Resume "
            "from it with resume_from_checkpoint='latest', or choose another output_dir."
        )
    return None, None


def _read_latest(present: list[Path]) -> tuple[Path | None, dict[str, Any] | None]:
    """The newest sound checkpoint."""
    faults = []
    for path in reversed(present):
        try:
            return path, load_checkpoint(path)
        except DamagedFileError as error:
            faults.append(str(error))
            logger.warning("%s Resuming from the checkpoint before it.", error)
    if faults:
        raise NestedAdapterError(
            f"No checkpoint can be resumed: {' '.join(faults)} Choose another output_dir to start again."
        )
    return None, None


def _named(folder: Path, resume_from: str | Path, present: list[Path]) -> Path:
    path = Path(resume_from)
    path = path if path.exists() else folder / path
    if not is_complete(path):
        names = ", ".join(one.name for one in present) or "none"
        raise NestedAdapterError(f"{resume_from} is not a complete checkpoint. Complete ones in {folder}: {names}.")
    if present and path.resolve().parent != folder.resolve():
        raise NestedAdapterError(
            f"{resume_from} is a checkpoint of another folder, but {folder} has checkpoints of its own, the last one "
            f"{present[-1].name}. Resume from it with resume_from_checkpoint='latest', or choose another output_dir."
        )
    return path
