"""Subjects of whom there are snapshots only, a half of the head covered in each, so that no photo shows everything.

Importing this module registers the world ``covered``; its people are those of ``heads``.
"""

import numpy as np
from cut_heads import person
from PIL import Image

from diffusers_nested.evaluation import Reference, World, register_world
from diffusers_nested.miniature import load_pipeline
from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.evaluation import adapter
from diffusers_nested.miniature.prompts import PROMPTS
from diffusers_nested.miniature.world import Scene, snapshot
from recipes.miniature.bundled.photographs import HEAD

_SEED = 800
_GREY = 128
HALVES = ("left", "right", "top", "bottom")


def references(kind: str, count: int, photos: int) -> list[Reference]:
    """Held-out people in scenes; ``kind`` is "people". More photos leave the first ones as they are."""
    if kind != "people" or photos < 1:
        raise ValueError(f"There are covered photos of people, at least 1 of each, got {photos} of {kind!r}.")
    return [Reference(f"covered-{number:03d}", {"person": _photos(number, photos)}) for number in range(count)]


def _photos(number: int, count: int) -> list[Image.Image]:
    subject, found = person(number), []
    halves = np.random.default_rng([_SEED, number]).permutation(HALVES)
    for i in range(count):
        scene = snapshot(np.random.default_rng([_SEED, number, i]), subject)
        found.append(Image.fromarray(_covered(scene, str(halves[i % len(halves)]), [_SEED, number, i])))
    return found


def _covered(scene: Scene, half: str, seed: list[int]) -> np.ndarray:
    """The picture (32, 32, 3) with grey over a half of the head."""
    picture, (mask,) = (draw(scene, np.random.default_rng(seed)) for draw in (render, subject_masks))
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    bottom, right = rows[0] + round(HEAD * (rows[-1] - rows[0] + 1)), columns[-1] + 1
    middle, centre = (rows[0] + bottom) // 2, (columns[0] + right) // 2
    top, bottom = {"top": (0, middle), "bottom": (middle, bottom)}.get(half, (0, bottom))
    left, right = {"left": (0, centre), "right": (centre, 32)}.get(half, (0, 32))
    covered = picture.copy()
    covered[top:bottom, left:right] = _GREY
    return covered


register_world(World("covered", load_pipeline, references, adapter, PROMPTS))
