"""The miniature in comparisons: its subjects, prompts, adapters and metrics.

Importing this module registers the world ``miniature`` and the metrics ``miniature-identity``, ``miniature-traits`` and
``miniature-text`` with ``diffusers_nested.evaluation``.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import NestedAdapterError
from ..evaluation import Reference, World, register_metric, register_world
from . import ADAPTERS, load_pipeline, path
from .drawing import render
from .metrics import MiniatureIdentity, MiniatureText, MiniatureTraits
from .prompts import PROMPTS
from .sampling import GUIDANCE, STEPS
from .world import Person, Pet, portrait, random_person, random_pet, snapshot

_SEED = 500
_DRAWN = {"people": {"person": random_person}, "pets": {"pet": random_pet}}
_DRAWN["pairs"] = {**_DRAWN["people"], **_DRAWN["pets"]}


def references(kind: str, count: int, photos: int) -> list[Reference]:
    """Draw subjects that no model of the miniature was trained on.

    The first photo of a subject is the studio portrait; further ones show it in other scenes. Neither number changes
    the first subjects and photos.

    Args:
        kind: ``"people"``, ``"pets"``, or ``"pairs"`` of a person and a pet.
        count: How many subjects.
        photos: How many photos of each.

    Raises:
        NestedAdapterError: There is no such kind, or ``photos`` is 0.
    """
    if kind not in _DRAWN or photos < 1:
        raise NestedAdapterError(
            f"Subjects of the miniature must be of a kind {', '.join(_DRAWN)} with at least 1 photo, got {kind!r} with "
            f"{photos} photos."
        )
    found = []
    for number in range(count):
        images = {}
        for word, draw in _DRAWN[kind].items():
            rng = np.random.default_rng([_SEED, number])
            images[word] = _photos(draw(rng, held_out=True), photos, rng)
        found.append(Reference(f"{kind}-{number:03d}", images))
    return found


def adapter(kind: str) -> Path:
    """The folder of a bundled adapter.

    Raises:
        NestedAdapterError: There is no such adapter.
    """
    if kind not in ADAPTERS:
        raise NestedAdapterError(f"An adapter of the miniature must be one of {', '.join(ADAPTERS)}, got {kind!r}.")
    return path(kind)


def _photos(subject: Person | Pet, count: int, rng: np.random.Generator) -> list[Image.Image]:
    scenes = [portrait(subject)]
    while len(scenes) < count:
        scenes.append(snapshot(rng, subject))
    return [Image.fromarray(render(scene, np.random.default_rng([_SEED, i]))) for i, scene in enumerate(scenes)]


register_world(
    World(
        name="miniature",
        pipeline=load_pipeline,
        references=references,
        adapter=adapter,
        prompts=PROMPTS,
        call={"num_inference_steps": STEPS, "guidance_scale": GUIDANCE},
    )
)
register_metric("miniature-identity", MiniatureIdentity)
register_metric("miniature-traits", MiniatureTraits)
register_metric("miniature-text", MiniatureText)
