"""Adapters that differ in one setting: mechanism, number of queries, norm, steps, examples or seed.

Run as ``python -m recipes.miniature.bundled.study_adapters FOLDER --mechanism decoupled``. All of them learn
from the same triplets on the bundled pipeline. An interrupted run resumes when it is started again; a complete one is
left alone.
"""

import argparse
import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from diffusers_nested.errors import NestedAdapterError
from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.miniature import load_pipeline, path
from diffusers_nested.miniature.triplets import draw_triplets
from diffusers_nested.vision import load_vision_tower

from .adapters import ALPHA, CHECKPOINTING_STEPS, QFORMER, STEPS, TRIPLETS, WORDS, Draw, fit, new_adapter, settings
from .photographs import draw_photographs

_NOTE, _COMPLETE = "study.json", "complete"
# What the photo of an example is: another picture of the subject, the target itself, or, as the paper trains, a part of
# the target, which is always a photograph.
EXAMPLES: dict[str, Draw] = {
    "others": draw_triplets,
    "themselves": partial(draw_triplets, photo_is_target=True),
    "photographs": draw_photographs,
}


@dataclass(frozen=True)
class StudyAdapter:
    """Settings of an adapter of a study.

    Attributes:
        name: "people" or "pets".
        mechanism: How subjects enter a layer.
        num_queries: Subject tokens per photo.
        alpha: Norm of a subject's value, None for none; unused by mechanisms without a norm.
        steps: Optimiser steps; by default as many as for the bundled adapter.
        seed: Seed of the initial weights, the order of the triplets and the noise.
        triplets: Number of examples.
        examples: One of ``EXAMPLES``.
        start: Name of the adapter beside it from whose weights its training starts, with a schedule of its own; None
            for new weights.
        is_curve: The adapters after 500, 1,000, 2,000, … steps are kept, too, in ``after-500`` and so on.
    """

    name: str = "people"
    mechanism: str = "nested"
    num_queries: int = QFORMER["num_queries"]
    alpha: float | None = ALPHA
    steps: int | None = None
    seed: int = 0
    triplets: int = TRIPLETS
    examples: str = "others"
    start: str | None = None
    is_curve: bool = False


def train_study_adapter(folder: Path, wanted: StudyAdapter, cache_folder: Path | None = None) -> Path:
    """Train an adapter, or resume its training, and save it in ``folder`` for ``load_nested_adapter``.

    Args:
        folder: Folder of this adapter alone.
        wanted: Its settings.
        cache_folder: Encoded triplets, shared by adapters with the same examples; the first one writes it.

    Returns:
        The folder.

    Raises:
        NestedAdapterError: The folder holds a run with other settings.
    """
    _check_folder(folder, wanted)
    if (folder / _COMPLETE).exists():
        return folder
    pipeline, tower = load_pipeline(), load_vision_tower(str(path(wanted.name) / "image_encoder"))
    changes: dict[str, Any] = {"num_queries": wanted.num_queries}
    if MECHANISMS[wanted.mechanism].has_norm:
        changes["alpha"] = wanted.alpha
    if wanted.start is not None:
        changes["start_from"] = folder.parent / wanted.start
    torch.manual_seed(wanted.seed)
    adapter = new_adapter(pipeline, tower, wanted.name, wanted.mechanism, **changes)
    config = settings(folder, wanted.steps or STEPS[wanted.name], wanted.seed, cache_folder)
    if wanted.is_curve:
        config = replace(config, checkpoints_total_limit=None)
    fit(pipeline, tower, adapter, config, wanted.name, wanted.triplets, EXAMPLES[wanted.examples])
    curve = curve_of(config.max_train_steps, config.checkpointing_steps) if wanted.is_curve else []
    kept = [folder, *(_keep(folder, step) for step in curve)]
    for place, part in product(kept, ("image_encoder", "feature_extractor")):
        shutil.copytree(path(wanted.name) / part, place / part, dirs_exist_ok=True)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    (folder / _COMPLETE).touch()
    return folder


def curve_of(steps: int, first: int = CHECKPOINTING_STEPS) -> list[int]:
    """The steps after which adapters are kept: the first checkpoint's, twice as many, and so on, below the last."""
    return [first * 2**i for i in range(20) if first * 2**i < steps]


def _keep(folder: Path, step: int) -> Path:
    return Path(
        shutil.copytree(folder / f"checkpoint-{step}" / "adapter", folder / f"after-{step}", dirs_exist_ok=True)
    )


def _check_folder(folder: Path, wanted: StudyAdapter) -> None:
    """Write down the settings of the folder's adapter, or compare them with those written down."""
    note = folder / _NOTE
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(asdict(wanted), indent=2) + "\n")
    noted = StudyAdapter(**json.loads(note.read_text()))
    if noted != wanted:
        raise NestedAdapterError(f"{folder} is the folder of {noted}, got {wanted}. Choose another folder.")


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of this adapter alone")
    parser.add_argument("--name", default="people", choices=sorted(WORDS))
    parser.add_argument("--mechanism", default="nested", choices=sorted(MECHANISMS))
    parser.add_argument("--num_queries", type=int, default=QFORMER["num_queries"])
    parser.add_argument("--alpha", type=_number_or_none, default=ALPHA, help="a number or none (default: %(default)s)")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--triplets", type=int, default=TRIPLETS)
    parser.add_argument("--examples", choices=EXAMPLES, default="others", help="what photos are")
    parser.add_argument("--start", help="the adapter beside it that the training starts from")
    parser.add_argument("--is_curve", action="store_true", help="keep earlier adapters, too")
    parser.add_argument("--cache_folder", type=Path, help="encoded triplets, shared by adapters with the same ones")
    return parser.parse_args()


def _number_or_none(text: str) -> float | None:
    return None if text == "none" else float(text)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = vars(_read_arguments())
    place, cache = given.pop("folder"), given.pop("cache_folder")
    train_study_adapter(place, StudyAdapter(**given), cache)
