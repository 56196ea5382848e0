"""Adapters on a base of this folder: the package's own training, the grammar's captions, and the paper's α.

    python -m recipes.miniature.words.adapters RUN_FOLDER/VARIANT/pipeline OUT --name people --steps 500

The vision tower is the one that comes with the package.
"""

import argparse
import logging
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

from diffusers_nested import miniature
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.miniature.language import plain_caption
from diffusers_nested.miniature.world import Scene
from diffusers_nested.vision import load_vision_tower

from ..bundled.adapters import TRIPLETS, WORDS, fit, new_adapter, settings

ALPHA = 2.0


def caption(scene: Scene) -> str:
    """A training caption with "person" and "pet", in a wording that depends on the scene alone."""
    return plain_caption(scene, np.random.default_rng(zlib.crc32(repr(scene).encode()))).text


def train(pipeline_folder: Path, out: Path, name: str, steps: int, mechanism: str = "nested") -> NestedAdapter:
    """Train an adapter, or resume its training; ``load_nested_adapter`` can then load ``out``."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(pipeline_folder, add_watermarker=False)
    tower = load_vision_tower(str(miniature.path(name) / "image_encoder"))
    torch.manual_seed(40)
    norm = {"alpha": ALPHA} if MECHANISMS[mechanism].has_norm else {}
    adapter = new_adapter(pipeline, tower, name, mechanism, **norm)
    fit(pipeline, tower, adapter, settings(out, steps, seed=40), name, TRIPLETS, caption=caption)
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
