"""The miniature in comparisons: its subjects, prompts and adapters, and its recogniser as a metric.

Importing this module makes the world ``miniature`` and the metrics ``miniature-identity`` and ``miniature-text``
known to ``diffusers_nested.evaluation``.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import NestedAdapterError
from ..evaluation import Reference, Shot, World, register_metric, register_world
from ..evaluation.metrics import IdentitySimilarity, Metric, Scores
from . import ADAPTERS, load_pipeline, load_recogniser, path
from .drawing import render
from .measure import PROMPTS, WORDS
from .recogniser import TRAITS, Recogniser
from .sampling import GUIDANCE, STEPS
from .world import Person, Pet, Scene, portrait, random_person, random_pet, random_scene

_SEED = 500  # of the subjects; as in the measurement of the bundled adapters
_STYLES = {"watercolor": "watercolor", "pencil drawing": "pencil", "neon picture": "neon", "photo": "photo"}


def references(kind: str, count: int, photos: int) -> list[Reference]:
    """Subjects that no model of the miniature was trained on.

    The first photo of a subject is the portrait in the studio, further ones show it in other scenes. A subject stays
    the same whatever the two numbers are.

    Args:
        kind: ``"people"`` or ``"pets"``.
        count: How many subjects.
        photos: How many photos of each.

    Raises:
        NestedAdapterError: There is no such kind.
    """
    if kind not in WORDS:
        raise NestedAdapterError(f"The miniature has no subjects {kind!r}, only {', '.join(WORDS)}.")
    found = []
    for number in range(count):
        rng = np.random.default_rng([_SEED, number])
        subject = random_person(rng, held_out=True) if kind == "people" else random_pet(rng, held_out=True)
        scenes = [portrait(subject), *(_snapshot(subject, rng) for _ in range(photos - 1))]
        images = [Image.fromarray(render(scene, rng)) for scene in scenes[: max(photos, 1)]]
        found.append(Reference(f"{kind}-{number:03d}", {WORDS[kind]: images}))
    return found


def adapter(kind: str) -> Path:
    """Folder of a bundled adapter."""
    if kind not in ADAPTERS:
        raise NestedAdapterError(f"The miniature has no adapter {kind!r}, only {', '.join(ADAPTERS)}.")
    return path(kind)


def wanted(prompt: str) -> dict[str, str]:
    """What a prompt of the miniature names, in the terms of the recogniser.

    Returns:
        Those of ``scene.place``, ``scene.shirt``, ``scene.hat``, ``scene.expression`` and ``scene.style`` that are
        in the prompt.
    """
    words = prompt.lower().replace(",", " ").split()
    text = f" {' '.join(words)} "
    named = {}
    for style, answer in _STYLES.items():
        if f" {style} of " in text:
            named["scene.style"] = answer
    for trait in ("place", "expression"):
        for answer in TRAITS[f"scene.{trait}"]:
            if answer in words:
                named[f"scene.{trait}"] = answer
    for trait in ("shirt", "hat"):
        before = [words[i - 1] for i, word in enumerate(words) if word == trait and i]
        if before and before[0] in TRAITS[f"scene.{trait}"]:
            named[f"scene.{trait}"] = before[0]
    return named


class MiniatureText(Metric):
    """Share of what a prompt names that the recogniser finds in the picture.

    Besides the share, there is a column for each of place, shirt, hat, expression and style, 1 for right and 0 for
    wrong, where the prompt names it.
    """

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """The share under the metric's name, and the parts."""
        _, read = _recogniser().read(_arrays(pictures))
        return [self._row(found, wanted(shot.prompt)) for found, shot in zip(read, shots, strict=True)]

    def _row(self, found: dict[str, str], named: dict[str, str]) -> Scores:
        hits = {trait: float(found[trait] == answer) for trait, answer in named.items()}
        if not hits:
            return {}
        parts = {f"{self.name} {trait.removeprefix('scene.')}": hit for trait, hit in hits.items()}
        return {self.name: float(np.mean(list(hits.values()))), **parts}


class _MiniatureRecogniser:
    """The recogniser's embedding of identity; there is always somebody."""

    def embed(self, pictures: Sequence[Image.Image]) -> list[np.ndarray | None]:
        """Vectors of length one."""
        return list(_recogniser().read(_arrays(pictures))[0].numpy())

    def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
        """The cosine."""
        return float(one @ other)


def _identity(name: str, word: str | None = None) -> Metric:
    return IdentitySimilarity(name, _MiniatureRecogniser(), word)


@cache
def _recogniser() -> Recogniser:
    return load_recogniser()


def _arrays(pictures: Sequence[Image.Image]) -> np.ndarray:
    """(B, 32, 32, 3) in uint8."""
    sizes = {picture.size for picture in pictures}
    if sizes != {(32, 32)}:
        raise NestedAdapterError(
            f"The miniature's metrics read its own pictures of 32 x 32 pixels, got {sorted(sizes)}. Use clip-text, "
            "dlib or another metric for other pipelines."
        )
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


def _snapshot(subject: Person | Pet, rng: np.random.Generator) -> Scene:
    """A photo of the subject somewhere."""
    scene = random_scene(rng, (subject,))
    return Scene(scene.subjects, scene.looks, scene.place)


register_world(
    World(
        name="miniature",
        pipeline=load_pipeline,
        references=references,
        adapter=adapter,
        prompts=tuple(prompt for prompt, _, _ in PROMPTS),
        call={"num_inference_steps": STEPS, "guidance_scale": GUIDANCE},
    )
)
register_metric("miniature-identity", _identity)
register_metric("miniature-text", MiniatureText)
