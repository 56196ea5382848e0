"""Adapters for people that differ in the rank of their projections alone: same steps, triplets and seed.

Run as ``python -m recipes.miniature.ranks.adapters FOLDER``. It trains the adapters that FOLDER does not have yet, on
the bundled pipeline, in float32. Then compare them: ``diffusers-nested evaluate recipes/miniature/ranks/people.toml``.
"""

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from diffusers_nested.miniature import load_pipeline, path
from diffusers_nested.vision import load_vision_tower

from ..bundled.adapters import fit, new_adapter, settings

RANKS = (None, 4, 8, 16, 32)


def train(folder: Path, rank: int | None, steps: int, triplets: int, rate: float, seed: int = 0) -> Path:
    """Train an adapter of this rank, None for dense, unless it is there; it can be loaded from the folder returned."""
    place = folder / ("dense" if rank is None else f"rank-{rank}")
    if (place / "config.json").exists():
        return place
    pipeline, tower = load_pipeline(), load_vision_tower(str(path("people") / "image_encoder"))
    torch.manual_seed(seed)
    adapter = new_adapter(pipeline, tower, "people", "nested", projection_rank=rank)
    config = settings(place, steps, seed, folder / "triplets.pt")
    fit(pipeline, tower, adapter, replace(config, mixed_precision="no", learning_rate=rate), "people", triplets)
    for part in ("image_encoder", "feature_extractor"):
        shutil.copytree(path("people") / part, place / part, dirs_exist_ok=True)
    return place


def train_all(folder: Path, ranks: Sequence[int | None], steps: int, triplets: int, rate: float) -> list[Path]:
    """Train them one after another."""
    folder.mkdir(parents=True, exist_ok=True)
    return [train(folder, rank, steps, triplets, rate) for rank in ranks]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--triplets", type=int, default=4000)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    given = parser.parse_args()
    train_all(given.folder, RANKS, given.steps, given.triplets, given.learning_rate)
