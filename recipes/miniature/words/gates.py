"""Gates of the base: as those of ``recipes.miniature.bundled.gates``, on captions in held-out wordings.

Run as ``python -m recipes.miniature.words.gates RUN_FOLDER``; it writes ``gates.json`` and a sheet
of samples to the folder. Every number is a share of pictures, on identities never trained on.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers.utils import make_image_grid
from PIL import Image

from diffusers_nested.miniature.language import Caption, describe
from diffusers_nested.miniature.recogniser import Recogniser, true_answers
from diffusers_nested.miniature.sampling import sample
from diffusers_nested.miniature.world import Scene, random_person, random_scene

from ..bundled.gates import COUNT, check

NAMED = {"hair": "hair|curls|mohawk|bun|pigtails", "glasses": "glasses|spectacles", "eyes": "eye"}  # in a caption
COLOURED = ("person.hair", "person.glasses", "person.eyes", "scene.shirt", "scene.hat")


def named_scenes(count: int, seed: int) -> list[tuple[Scene, Caption]]:
    """Unseen people with roles left out, and captions in held-out wordings that describe their identity."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(count):
        drawn = random_scene(rng, (random_person(rng, held_out=True),))
        scene = replace(drawn, looks=tuple(replace(look, role="person") for look in drawn.looks))
        scenes.append((scene, describe(scene, rng, traits=1.0, held_out=True)))
    return scenes


def named_in(scene: Scene, caption: Caption) -> dict[str, str]:
    """The right answers to what a caption names and its style can show; pencil drawings have no colours."""
    truth = true_answers(scene.subjects[0], scene.looks[0], scene.place, scene.style)
    names = [f"person.{trait}" for trait, words in NAMED.items() if re.search(words, caption.text)]
    names += [f"scene.{trait}" for trait in caption.named[0]]
    colourless = scene.style == "pencil"
    return {name: truth[name] for name in names if not (colourless and name in COLOURED)}


def following(pipeline: Any, recogniser: Recogniser) -> tuple[dict[str, float], Image.Image]:
    """Share of samples that show what their prompt names, and a sheet of the first forty."""
    scenes = named_scenes(COUNT, seed=101)
    pictures = sample(pipeline, [caption.text for _, caption in scenes], range(COUNT))
    _, read = recogniser.read(pictures)
    hits: dict[str, list[bool]] = {}
    for one, found in zip(scenes, read, strict=True):
        for name, answer in named_in(*one).items():
            hits.setdefault(name, []).append(found[name] == answer)
    result = {f"follows {name}": float(np.mean(values)) for name, values in sorted(hits.items())}
    first = [Image.fromarray(picture).resize((128, 128), Image.Resampling.NEAREST) for picture in pictures[:40]]
    return result, make_image_grid(first, rows=4, cols=10)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(check(Path(sys.argv[1]), following), indent=2) + "\n")
