"""Triplets as the paper trains: photographs alone, and each photo of a subject cut out of its own target.

Styles, hats, and most places and shirts are in none of them, so what an adapter makes of these is the base's own.
"""

import numpy as np
from PIL import Image

from diffusers_nested.data import Triplet
from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.triplets import caption_of
from diffusers_nested.miniature.world import Look, Scene, random_person, random_pet

PLACES, SHIRTS, EXPRESSIONS = ("studio", "room", "forest"), ("grey", "black", "white"), ("neutral", "smiling")
_DRAWN = {"people": random_person, "pets": random_pet}
HEAD = 0.62  # of the height of a subject, from its top


def draw_photographs(name: str, count: int, seed: int, held_out: bool = False) -> list[Triplet]:
    """Draw (crop, caption, photograph) of many identities; see ``draw_triplets`` for the arguments."""
    rng = np.random.default_rng(seed)
    triplets = []
    for _ in range(count):
        place, shirt, expression = (str(rng.choice(one)) for one in (PLACES, SHIRTS, EXPRESSIONS))
        scene = Scene((_DRAWN[name](rng, held_out),), (Look(shirt, expression=expression),), place)
        noise = int(rng.integers(2**31))
        picture, (mask,) = (draw(scene, np.random.default_rng(noise)) for draw in (render, subject_masks))
        triplets.append(Triplet(head_of(picture, mask), caption_of(scene), picture))
    return triplets


def head_of(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The square around a subject's head, at the size of the picture (32, 32, 3); the mask is (32, 32)."""
    rows = np.flatnonzero(mask.any(1))
    height = round(HEAD * (rows[-1] - rows[0] + 1))
    columns = np.flatnonzero(mask[rows[0] : rows[0] + round(0.8 * height)].any(0))  # above the shoulders
    side = min(32, max(8, height, columns[-1] - columns[0] + 1))
    centre = (columns[0] + columns[-1] + 1) / 2
    top, left = (int(np.clip(at, 0, 32 - side)) for at in (rows[0], round(centre - side / 2)))
    crop = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(crop.resize((32, 32), Image.Resampling.NEAREST))
