"""Training in phases, such as 512 pixels and then 1024: runs that follow one another in one folder."""

import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..adapter import NestedAdapter
from ..data import Triplets
from ..environment.processes import process_index
from ..errors import NestedAdapterError
from ..files.lock import held
from ..files.write_whole import write_whole
from ..vision import ImageEncoder, ImageEncoders
from .checkpoints import find_checkpoints
from .config import MAY_CHANGE, NOT_OF_A_RUN, OF_ALL_PHASES, TrainingConfig
from .folder import holds_adapter, remove_adapter, save_adapter
from .optimizer import check_optimizer
from .train import PATIENCE, check_training, train_adapter

logger = logging.getLogger(__name__)

_FINISHED = "phases.json"  # the settings of the phases that are finished
_RECORD = "training_config.json"  # a phase's, from its first step on
# a run may go on with others, but what is finished has been done with these
_DECIDED = ("max_train_steps", "learning_rate")
_OF_A_PHASE = [
    one.name for one in fields(TrainingConfig) if one.name in _DECIDED or one.name not in (*NOT_OF_A_RUN, *MAY_CHANGE)
]

Settings = dict[str, Any]


def train_in_phases(
    pipeline: Any,
    image_encoder: ImageEncoder | ImageEncoders,
    adapter: NestedAdapter,
    dataset: Triplets,
    configs: Sequence[TrainingConfig],
    validation_images: Sequence[Any] | None = None,
    validation_dataset: Triplets | None = None,
) -> NestedAdapter:
    """Train an adapter in place in several phases, each of which starts from what the one before has learned.

    Each phase is a run of ``train_adapter`` in a folder of its own, ``phase-1``, ``phase-2`` and so on in the common
    ``output_dir``, with an optimiser and a learning rate of its own. With ``resume_from_checkpoint="latest"``, a killed
    training goes on in the phase in which it was killed. All phases are checked before the first begins.

    Args:
        pipeline: As for ``train_adapter``.
        image_encoder: As for ``train_adapter``.
        adapter: As for ``train_adapter``; if phases are finished already, it gets their weights.
        dataset: As for ``train_adapter``.
        configs: Settings of the phases, which differ in anything but ``output_dir``, ``resume_from_checkpoint``,
            ``log_with`` and ``mixed_precision``.
        validation_images: As for ``train_adapter``.
        validation_dataset: As for ``train_adapter``.

    Returns:
        The adapter after the last phase; also saved in ``output_dir``.

    Raises:
        NestedAdapterError: Something does not fit together, or a finished phase had other settings.
    """
    check_phases(configs)
    given = (pipeline, image_encoder, adapter, dataset)
    for number, config in enumerate(configs, 1):
        try:
            check_optimizer(config)
            check_training(*given, config, validation_images, validation_dataset)
        except NestedAdapterError as error:
            raise type(error)(f"Phase {number}: {error}") from error
    folder, is_main = configs[0].folder, process_index() == 0
    with held(folder, "run", "output_dir", PATIENCE) if is_main else nullcontext():
        finished = finished_phases(adapter, configs)
        if finished:
            _take_weights(adapter, _folder_of(folder, len(finished)))
        if is_main and len(finished) < len(configs):
            remove_adapter(folder)  # that of the last phase so far, which also stands in its folder
        for number, config in enumerate(configs[len(finished) :], len(finished) + 1):
            logger.info("Phase %d of %d: %s", number, len(configs), _in_words(config))
            own = replace(config, output_dir=_folder_of(folder, number))
            train_adapter(*given, own, validation_images, validation_dataset, phase=number)
            finished.append(_settings(adapter, config))
            if is_main:
                write_whole(folder / _FINISHED, json.dumps(finished, indent=2) + "\n")
        if is_main:
            save_adapter(folder, adapter)
    return adapter


def check_phases(configs: Sequence[TrainingConfig]) -> None:
    """Check that phases can follow one another.

    Raises:
        NestedAdapterError: There are none, or what they share differs.
    """
    if not configs:
        raise NestedAdapterError("There are no phases. Give the settings of at least one.")
    first, resume = configs[0], configs[0].resume_from_checkpoint
    sides: dict[str, int] = {}
    for number, config in enumerate(configs, 1):
        for name in OF_ALL_PHASES:
            one, other = getattr(first, name), getattr(config, name)
            if one is not other and one != other:
                raise NestedAdapterError(
                    f"{name} must be the same in all phases: phase 1 has {one!r}, phase {number} {other!r}."
                )
        folder = str(config.cache_folder)
        if config.cache_folder is not None and sides.setdefault(folder, config.resolution) != config.resolution:
            raise NestedAdapterError(
                f"Phase {number}: cache_folder {folder} is that of a phase with resolution {sides[folder]}, but this "
                f"one has {config.resolution}. Name another folder."
            )
    if resume not in (None, "latest"):
        raise NestedAdapterError(
            "Phases resume where they were interrupted: resume_from_checkpoint must be 'latest' or None, got "
            f"{str(resume)!r}."
        )


def finished_phases(adapter: NestedAdapter, configs: Sequence[TrainingConfig]) -> list[Settings]:
    """The settings of the phases that need not be trained any more.

    Raises:
        NestedAdapterError: They were others, or the folder is that of another training.
    """
    folder, resumes = configs[0].folder, configs[0].resume_from_checkpoint is not None
    finished = _read(folder / _FINISHED)
    following = _folder_of(folder, len(finished) + 1)
    has_begun = (following / _RECORD).exists()
    _check_folder(folder, len(finished) + has_begun, len(configs), resumes)
    for number, (old, config) in enumerate(zip(finished, configs, strict=False), 1):
        new = _settings(adapter, config)
        changed = {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}
        is_last = number == len(finished) and not has_begun
        if is_last and list(changed) == ["max_train_steps"] and new["max_train_steps"] > old["max_train_steps"]:
            return finished[:-1]
        if changed:
            said = "; ".join(f"{name} was {one!r}, now {other!r}" for name, (one, other) in changed.items())
            raise NestedAdapterError(
                f"Phase {number} in {folder} is finished, with other settings: {said}. Use the same, or start again in "
                "another output_dir."
            )
    if has_begun and holds_adapter(following) and not find_checkpoints(following):
        # killed between its end and the record of it; there is nothing to repeat its last steps from
        finished.append(_settings(adapter, configs[len(finished)]))
    return finished


def _check_folder(folder: Path, begun: int, count: int, resumes: bool) -> None:
    """Raise unless phases can begin or go on in this folder."""
    if begun > count:
        raise NestedAdapterError(
            f"{folder} has begun with phase {begun}, but only {count} are given. Give all of them."
        )
    if begun and not resumes:
        raise NestedAdapterError(
            f"{folder} has phases of an earlier training. Go on with resume_from_checkpoint='latest', or choose "
            "another output_dir."
        )
    if not begun and (holds_adapter(folder) or find_checkpoints(folder)):
        raise NestedAdapterError(f"{folder} is that of a run without phases. Choose another output_dir.")


def _settings(adapter: NestedAdapter, config: TrainingConfig) -> Settings:
    """What a finished phase was trained with, as JSON gives it back."""
    of_adapter = {name: value for name, value in adapter.config.items() if not name.startswith("_")}
    found = {
        **{name: getattr(config, name) for name in _OF_A_PHASE},
        **{f"adapter.{name}": value for name, value in of_adapter.items() if f"adapter.{name}" not in MAY_CHANGE},
    }
    return json.loads(json.dumps(found, default=str))


def _read(file: Path) -> list[Settings]:
    if not file.exists():
        return []
    try:
        return list(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise NestedAdapterError(f"Cannot read {file}, which tells which phases are finished: {error}") from error


def _take_weights(adapter: NestedAdapter, folder: Path) -> None:
    """Give an adapter the weights that a phase has published."""
    logger.info("Finished already: %s", folder)
    adapter.load_state_dict(NestedAdapter.from_pretrained(folder).state_dict())


def _folder_of(folder: Path, number: int) -> Path:
    return folder / f"phase-{number}"


def _in_words(config: TrainingConfig) -> str:
    return (
        f"{config.resolution} pixels, {config.step_batch_size} examples per process, {config.max_train_steps} steps, "
        f"learning rate {config.learning_rate:g}"
    )
