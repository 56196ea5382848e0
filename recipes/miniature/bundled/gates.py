"""Gates: what the miniature's base and recogniser must achieve before an adapter is trained.

Run as ``python -m recipes.miniature.bundled.gates RUN_FOLDER``; it writes ``gates.json`` and a sheet
of samples to the folder. Every number is a share of pictures, on identities never trained on.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import make_image_grid
from PIL import Image

from diffusers_nested.miniature.recogniser import Recogniser
from diffusers_nested.miniature.sampling import sample
from diffusers_nested.miniature.world import Person, Scene, random_person, random_scene

from .captions import describe
from .recogniser import draw_views

Following = Callable[[Any, Recogniser], tuple[dict[str, float], Image.Image]]

READ = ("person.skin", "person.hair", "person.hair_style", "person.glasses")
COUNT = 200


def reading(recogniser: Recogniser) -> dict[str, float]:
    """Share of unseen drawings of people whose traits the recogniser reads correctly, in all styles and in photos."""
    pictures, answers = draw_views(600, 2, seed=100, held_out=True)
    embeddings, read = recogniser.read(pictures.reshape(-1, 32, 32, 3))
    truths = [truth for row in answers for truth in row]
    result = {}
    for name in READ:
        right = [(r[name] == t[name], t["scene.style"]) for r, t in zip(read, truths, strict=True) if name in t]
        result[f"reads {name}"] = float(np.mean([hit for hit, _ in right]))
        result[f"reads {name} (photos)"] = float(np.mean([hit for hit, style in right if style == "photo"]))
    # A bun and short hair are the same picture under a hat.
    name = "person.hair_style"
    bare = [r[name] == t[name] for r, t in zip(read, truths, strict=True) if name in t and _is_bare(t)]
    result[f"reads {name} (bare heads)"] = float(np.mean(bare))
    pairs = embeddings.reshape(600, 2, -1)
    result["cosine same identity"] = float((pairs[:, 0] * pairs[:, 1]).sum(-1).mean())
    result["cosine other identity"] = float((pairs[:, 0] * pairs[:, 1].roll(1, 0)).sum(-1).mean())
    return result


def _is_bare(truth: dict[str, str]) -> bool:
    return truth["scene.hat"] == "none" and truth["scene.role"] in ("person", "clown")


def named_scenes(count: int, seed: int) -> list[tuple[Scene, str]]:
    """Photos of unseen people with captions that name hair colour, glasses, shirt and place."""
    rng = np.random.default_rng(seed)
    scenes = []
    while len(scenes) < count:
        scene = random_scene(rng, (random_person(rng, held_out=True),))
        caption = describe(scene, rng, traits=1.0)
        who, look = scene.subjects[0], scene.looks[0]
        named = isinstance(who, Person) and "hair" in caption and "glasses" in caption
        if named and look.shirt != "grey" and scene.place != "studio" and scene.style == "photo":
            scenes.append((scene, caption))
    return scenes


def following(pipeline: Any, recogniser: Recogniser) -> tuple[dict[str, float], Image.Image]:
    """Share of samples that show what their prompt names, and a sheet of the first forty."""
    scenes = named_scenes(COUNT, seed=101)
    pictures = sample(pipeline, [caption for _, caption in scenes], range(COUNT))
    _, read = recogniser.read(pictures)
    people = [scene.subjects[0] for scene, _ in scenes]
    wanted = {
        "person.hair": [who.hair for who in people if isinstance(who, Person)],
        "person.glasses": [who.glasses for who in people if isinstance(who, Person)],
        "scene.shirt": [scene.looks[0].shirt for scene, _ in scenes],
        "scene.place": [scene.place for scene, _ in scenes],
    }
    result = {
        f"follows {name}": float(np.mean([r[name] == value for r, value in zip(read, values, strict=True)]))
        for name, values in wanted.items()
    }
    first = [Image.fromarray(picture).resize((128, 128), Image.Resampling.NEAREST) for picture in pictures[:40]]
    return result, make_image_grid(first, rows=4, cols=10)


def check(folder: Path, following: Following = following) -> dict[str, float]:
    """Measure everything, write the results, and return them; ``following`` reads samples."""
    recogniser = Recogniser.from_pretrained(folder / "recogniser").eval()
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder / "pipeline", add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    followed, samples = following(pipeline, recogniser)
    result = {name: round(value, 4) for name, value in {**reading(recogniser), **followed}.items()}
    (folder / "gates.json").write_text(json.dumps(result, indent=2) + "\n")
    samples.save(folder / "gates.png")
    return result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(check(Path(sys.argv[1])), indent=2) + "\n")
