"""Subjects whose photo is only their head, as adapters that learn from photographs know them, and their identity.

Importing this module registers the world ``heads`` and the metric ``whole-identity``.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from diffusers_nested.evaluation import Reference, World, register_metric, register_world
from diffusers_nested.evaluation.metrics import IdentitySimilarity
from diffusers_nested.miniature import load_pipeline
from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.evaluation import adapter
from diffusers_nested.miniature.metrics import MiniatureIdentity
from diffusers_nested.miniature.prompts import PROMPTS
from diffusers_nested.miniature.world import Person, portrait, random_person
from recipes.miniature.bundled.photographs import head_of

_SEED = 700


def references(kind: str, count: int, photos: int) -> list[Reference]:
    """Held-out people with the head of a portrait each; ``kind`` is "people", ``photos`` 1."""
    if (kind, photos) != ("people", 1):
        raise ValueError(f"There is one head each of people, got {photos} of {kind!r}.")
    return [Reference(f"head-{number:03d}", {"person": [portrait_and_head(number)[1]]}) for number in range(count)]


class WholeIdentity(MiniatureIdentity):
    """Identity as in the whole portrait, which is what the recogniser can read."""

    def check(self, references: Sequence[Reference]) -> None:
        """Embed the portraits."""
        whole = [Reference(one.name, {"person": [portrait_and_head(int(one.name[-3:]))[0]]}) for one in references]
        IdentitySimilarity.check(self, whole)


def person(number: int) -> Person:
    """A person that no model was trained on."""
    return random_person(np.random.default_rng([_SEED, number]), True)


def portrait_and_head(number: int) -> tuple[Image.Image, Image.Image]:
    """A person's portrait, and the head in it."""
    scene = portrait(person(number))
    picture, (mask,) = (draw(scene, np.random.default_rng([_SEED, number])) for draw in (render, subject_masks))
    return Image.fromarray(picture), Image.fromarray(head_of(picture, mask))


register_world(World("heads", load_pipeline, references, adapter, PROMPTS))
register_metric("whole-identity", WholeIdentity)
