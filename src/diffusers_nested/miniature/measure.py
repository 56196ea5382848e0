"""How well the bundled adapters carry identities that they have never seen.

``python -m diffusers_nested.miniature.measure people OUT.json`` generates every identity in every prompt, plain
and at several scales, and lets the recogniser read the pictures.
"""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..evaluation import bootstrap_mean
from . import load_pipeline, load_recogniser, path
from .drawing import render
from .recogniser import PERSON_TRAITS, PET_TRAITS, Recogniser
from .sampling import sample
from .world import Person, Pet, portrait, random_person, random_pet

logger = logging.getLogger(__name__)

# Prompts with the place and the shirt that they ask for.
PROMPTS = (
    ("a photo of a {} wearing a red shirt on the beach", "beach", "red"),
    ("a photo of a smiling {} wearing a blue shirt in the snow", "snow", "blue"),
    ("a photo of a sad {} wearing a yellow shirt in the forest", "forest", "yellow"),
    ("a photo of a {} wearing a white shirt and a green hat in the desert", "desert", "white"),
    ("a watercolor of a {} wearing a purple shirt in the city", "city", "purple"),
)
SCALES = (1.0, 2.0, 4.0)
IDENTITIES = 100
WORDS = {"people": "person", "pets": "pet"}


def references(name: str, count: int, seed: int = 500) -> tuple[list[Person | Pet], np.ndarray]:
    """Held-out identities and their portraits, uint8 (count, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    draw = random_person if name == "people" else random_pet
    subjects: list[Person | Pet] = [draw(rng, held_out=True) for _ in range(count)]
    return subjects, np.stack([render(portrait(subject), rng) for subject in subjects])


def measure(name: str, identities: int = IDENTITIES) -> dict[str, Any]:
    """Measure one bundled adapter.

    Args:
        name: ``"people"`` or ``"pets"``.
        identities: How many held-out identities.

    Returns:
        Per condition ("plain", "scale 1", …) and metric: mean and 95 % bootstrap interval over identities.
    """
    pipeline, recogniser = load_pipeline(), load_recogniser()
    subjects, portraits = references(name, identities)
    pipeline.load_nested_adapter(path(name))
    whose, _ = recogniser.read(portraits)
    results = {"plain": _condition(pipeline, recogniser, name, subjects, whose, {})}
    images = [[{WORDS[name]: Image.fromarray(portrait)}] for portrait in portraits for _ in PROMPTS]
    for scale in SCALES:
        pipeline.set_nested_adapter_scale(scale)
        keywords = {"nested_adapter_image": [one[0] for one in images]}
        results[f"scale {scale:g}"] = _condition(pipeline, recogniser, name, subjects, whose, keywords)
    return {
        "adapter": name,
        "identities": identities,
        "prompts": [prompt.format(WORDS[name]) for prompt, _, _ in PROMPTS],
        "results": results,
    }


def _condition(
    pipeline: Any,
    recogniser: Recogniser,
    name: str,
    subjects: list[Person | Pet],
    whose: Tensor,
    keywords: Mapping[str, Any],
) -> dict[str, Any]:
    count = len(subjects)
    prompts = [prompt.format(WORDS[name]) for _ in subjects for prompt, _, _ in PROMPTS]
    pictures = sample(pipeline, prompts, range(len(prompts)), **keywords)
    embeddings, read = recogniser.read(pictures)
    embeddings = embeddings.reshape(count, len(PROMPTS), -1)
    scores = torch.einsum("ipd,jd->ipj", embeddings, whose)  # picture p of subject i against subject j
    own = scores[torch.arange(count), :, torch.arange(count)]
    other = scores[torch.arange(count), :, (torch.arange(count) + 1) % count]
    table = {
        "identity": own.numpy(),
        "identity of another": other.numpy(),
        "top 1": (scores.argmax(-1) == torch.arange(count)[:, None]).float().numpy(),
        **_trait_hits(name, subjects, read),
    }
    row = {metric: [round(x, 4) for x in bootstrap_mean(values)] for metric, values in table.items()}
    logger.info("%s", json.dumps({metric: values[0] for metric, values in row.items()}))
    return row


def _trait_hits(name: str, subjects: list[Person | Pet], read: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """Whether each picture shows the subject's traits, and its prompt's place and shirt: (subjects, prompts)."""
    kind, traits = ("person", PERSON_TRAITS) if name == "people" else ("pet", PET_TRAITS)
    rows = [read[i * len(PROMPTS) : (i + 1) * len(PROMPTS)] for i in range(len(subjects))]
    hits = {
        trait: np.array(
            [[r[f"{kind}.{trait}"] == getattr(s, trait) for r in row] for s, row in zip(subjects, rows, strict=True)]
        )
        for trait in traits
    }
    for metric, column in (("place", 1), ("shirt", 2)):
        wanted = [prompt[column] for prompt in PROMPTS]
        hits[metric] = np.array([[r[f"scene.{metric}"] == w for r, w in zip(row, wanted, strict=True)] for row in rows])
    return hits


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    Path(sys.argv[2]).write_text(json.dumps(measure(sys.argv[1]), indent=1) + "\n")
