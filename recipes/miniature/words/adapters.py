"""Adapters on a base of this folder: the package's own training, the grammar's captions, and the paper's α.

    python -m recipes.miniature.words.adapters RUN_FOLDER/VARIANT/pipeline OUT --name people --steps 500

The vision tower is the one that comes with the package.
"""

import argparse
import logging
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

from diffusers_nested import miniature
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.vision import load_vision_tower

from ..bundled.adapters import TRIPLETS, WORDS, fit, new_adapter, settings


def train(pipeline_folder: Path, out: Path, name: str, steps: int, mechanism: str = "nested") -> NestedAdapter:
    """Train an adapter, or resume its training; ``load_nested_adapter`` can then load ``out``."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(pipeline_folder, add_watermarker=False)
    tower = load_vision_tower(str(miniature.path(name) / "image_encoder"))
    torch.manual_seed(40)
    adapter = new_adapter(pipeline, tower, name, mechanism)
    fit(pipeline, tower, adapter, settings(out, steps, seed=40), name, TRIPLETS)
    adapter.save_pretrained(out)
    for part in ("image_encoder", "feature_extractor"):
        shutil.copytree(miniature.path(name) / part, out / part, dirs_exist_ok=True)
    return adapter


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", choices=sorted(WORDS), default="people")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--mechanism", choices=sorted(MECHANISMS), default="nested")
    options = parser.parse_args()
    train(options.pipeline, options.out, options.name, options.steps, options.mechanism)
