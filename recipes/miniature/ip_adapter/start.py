"""What an IP-Adapter is worth as a start for training a nested adapter.

Run as ``python -m recipes.miniature.ip_adapter.start FOLDER IP_FOLDER`` after ``train``. It trains two nested adapters
for people that differ in their first weights alone, those of the IP-Adapter in ``IP_FOLDER`` or random ones, and writes
what they are after a number of steps: ``FOLDER / started-250``, ``FOLDER / nothing-250`` and so on. An interrupted run
resumes.
"""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.miniature import load_pipeline, path
from diffusers_nested.vision import ImageEncoder, load_vision_tower

from ..bundled.adapters import fit, new_adapter, settings
from .export import as_nested, save_with_tower
from .train import RESAMPLER

NAME = "people"
STAGES = (125, 250, 500, 1000)


def new(pipeline: Any, tower: ImageEncoder, ip_folder: Path | None, seed: int) -> NestedAdapter:
    """A nested adapter with the weights of an IP-Adapter, or random ones."""
    torch.manual_seed(seed)
    if ip_folder is None:
        return new_adapter(pipeline, tower, NAME, "nested", **RESAMPLER)
    return as_nested(ip_folder, pipeline.unet, NAME)


def train(folder: Path, title: str, ip_folder: Path | None, cache_folder: Path, seed: int) -> None:
    """Train one of the two in stages; the learning rate is constant, so a stage does not know how many follow."""
    for steps in STAGES:
        if (folder / f"{title}-{steps}").exists():
            continue
        pipeline, tower = load_pipeline(), load_vision_tower(str(path(NAME) / "image_encoder"))
        adapter = new(pipeline, tower, ip_folder, seed)
        config = settings(folder / f"{title}-run", steps, seed, cache_folder)
        constant = {"lr_scheduler": "constant", "lr_warmup_steps": 50, "checkpointing_steps": STAGES[0]}
        fit(pipeline, tower, adapter, dataclasses.replace(config, **constant), NAME)
        save_with_tower(adapter, folder / f"{title}-{steps}", NAME)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("ip_folder", type=Path, help="of the IP-Adapter for people")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = _read_arguments()
    for title, start in {"started": given.ip_folder, "nothing": None}.items():
        train(given.folder, title, start, given.ip_folder.parent.parent / f"{NAME}-penultimate", given.seed)
