"""Adapters for people that differ in their vision tower alone: same steps, triplets and seed.

Run as ``python -m recipes.miniature.towers.adapters FOLDER`` after ``vision``. It trains those that FOLDER does not
have yet, on the bundled pipeline, in float32. Then compare them: ``diffusers-nested evaluate
recipes/miniature/towers/people.toml``.
"""

import argparse
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from diffusers_nested.miniature import load_pipeline, path
from diffusers_nested.vision import load_vision_tower

from ..bundled.adapters import fit, new_adapter, settings

PARTS = ("image_encoder", "feature_extractor")


def train(source: Path, place: Path, steps: int, triplets: int, seed: int = 0) -> Path:
    """Train an adapter on the tower of a folder, unless it is there; it can be loaded from the folder returned."""
    if (place / "config.json").exists():
        return place
    pipeline, tower = load_pipeline(), load_vision_tower(str(source / "image_encoder"))
    torch.manual_seed(seed)
    own = {name: value for name, value in tower.adapter_settings().items() if name != "image_feature_dim"}
    adapter = new_adapter(pipeline, tower, "people", "nested", **own)
    config = replace(settings(place, steps, seed), mixed_precision="no", cache_folder=None)
    fit(pipeline, tower, adapter, config, "people", triplets)
    for part in PARTS:
        shutil.copytree(source / part, place / part, dirs_exist_ok=True)
    return place


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--triplets", type=int, default=4000)
    given = parser.parse_args()
    for name, folder in {
        "clip": path("people"),
        **{one: given.folder / one for one in ("recogniser", "siglip")},
    }.items():
        train(folder, given.folder / f"people-{name}", given.steps, given.triplets)
