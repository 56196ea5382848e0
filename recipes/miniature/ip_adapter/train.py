"""IP-Adapters for the bundled miniature, trained as IP-Adapter Plus is.

Run as ``python -m recipes.miniature.ip_adapter.train FOLDER people`` (or ``pets``). It writes ``FOLDER / people``, a
folder for ``load_ip_adapter`` and ``load_nested_adapter``, and the same weights as a nested adapter that is not trained
as one, ``FOLDER / people-nested``. An interrupted run resumes.
"""

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from diffusers_nested.miniature import load_pipeline, path
from diffusers_nested.vision import load_vision_tower

from ..bundled.adapters import WORDS, fit, new_adapter, settings
from .export import as_nested, export, save_with_tower

STEPS = {"people": 2400, "pets": 1200}
# As IP-Adapter was trained: these examples lose prompt and image together.
DROPPED = 0.1
RESAMPLER = {
    "subject_encoder": "resampler",
    "num_queries": 16,
    "resampler_hidden_size": 128,
    "resampler_num_layers": 4,
    "resampler_num_heads": 2,
}


def train(folder: Path, name: str, seed: int, steps: int) -> Path:
    """Train an IP-Adapter for people or pets, or resume its training; returns its folder."""
    pipeline, tower = load_pipeline(), load_vision_tower(str(path(name) / "image_encoder"))
    torch.manual_seed(seed)
    adapter = new_adapter(pipeline, tower, name, "decoupled", **RESAMPLER)
    config = settings(folder / f"{name}-run", steps, seed, cache_folder=folder.parent / f"{name}-penultimate")
    fit(pipeline, tower, adapter, dataclasses.replace(config, proportion_empty_prompts=DROPPED), name)
    unet = load_pipeline().unet  # training has cast the other one
    export(adapter, unet, folder / name, name)
    save_with_tower(as_nested(folder / name, unet, name), folder / f"{name}-nested", name)
    return folder / name


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=sorted(WORDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = _read_arguments()
    train(given.folder, given.name, given.seed, given.steps or STEPS[given.name])
