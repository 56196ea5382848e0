"""Roles with another word, and two people, on the base with an adapter for people.

    python -m recipes.miniature.words.others others.json RUN_FOLDER/pipeline RUN_FOLDER/people

All on held-out people and in held-out wordings.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from diffusers_nested import Subject, miniature
from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.language import describe, plain_caption, vocabulary
from diffusers_nested.miniature.recogniser import Recogniser, crop_subject
from diffusers_nested.miniature.sampling import STEPS, sample
from diffusers_nested.miniature.world import ROLES, Look, Person, Scene, portrait, random_person, random_scene

SCALES = (1.0, 2.0)
ROLE_SCALES = (0.3, 0.4, 0.5, *SCALES)  # below 1, a part of the word's own value stays, and with it the hat
ROLE_END = 0.45  # of the steps; after it, the word's own value puts the hat on. Chosen on other people
Row = dict[str, Any]


def measure(pipeline: Any, recogniser: Recogniser, people: int, steps: int) -> dict[str, Any]:
    """Both parts, as a row per case; the pipeline has the adapter for people."""
    rows = [
        *roles(pipeline, recogniser, people, steps),
        *two_people(pipeline, recogniser, people, steps),
    ]
    return {"people": people, "steps": steps, "rows": rows}


def roles(pipeline: Any, recogniser: Recogniser, people: int, steps: int) -> list[Row]:
    """A person's photo at the word "king", "wizard", "chef" or "clown", each person in each role."""
    rng = np.random.default_rng(810)
    who = [random_person(rng, held_out=True) for _ in range(people)]
    photos, own = portraits(recogniser, who)
    cases = [(number, role) for number in range(people) for role in ROLES[1:]]
    words = [vocabulary.ROLES[role][0] for _, role in cases]
    texts = [caption_with(word, who[n], role, rng) for (n, role), word in zip(cases, words, strict=True)]
    number = [n for n, _ in cases]
    rows = []
    for scale, end in ((None, 1.0), *((scale, 1.0) for scale in ROLE_SCALES), (1.0, ROLE_END)):
        subjects = [
            [Subject(photos[n], token=word, adapter_name="person", end=end)]
            for n, word in zip(number, words, strict=True)
        ]
        drawn = draw(pipeline, texts, subjects, scale, steps)
        seen, read = recogniser.read(drawn)
        hits = [found["scene.role"] == role for found, (_, role) in zip(read, cases, strict=True)]
        scores = {"role as named": np.mean(hits), **_cosines(seen, own[number], own.roll(1, 0)[number])}
        until = "" if end == 1 else f" until {end:g} of the steps"
        rows.append(_row(f"another word, {_said(scale)}{until}", scores))
    return rows


def caption_with(word: str, who: Person, role: str, rng: np.random.Generator) -> str:
    """A held-out wording with this noun, without any other word on who it is and what comes with the role."""
    attire = {one for row in vocabulary.ATTIRE.values() for one in row}
    while True:
        scene = random_scene(rng, (who,))
        scene = replace(scene, looks=(Look(scene.looks[0].shirt, role=role),))
        caption = describe(scene, rng, traits=0.0, held_out=True)
        if caption.nouns == (word,) and not any(one in caption.text for one in attire):
            return caption.text


def two_people(pipeline: Any, recogniser: Recogniser, pairs: int, steps: int) -> list[Row]:
    """Two people at one word, each with a photo and a mask of its half."""
    rng = np.random.default_rng(811)
    who = [random_person(rng, held_out=True) for _ in range(2 * pairs)]
    photos, own = portraits(recogniser, who)
    texts = [plain_caption(_scene_of(who[i : i + 2], rng), rng, held_out=True).text for i in range(0, 2 * pairs, 2)]
    left = np.zeros((32, 32), np.float32)
    left[:, :16] = 1
    subjects = [
        [Subject(photos[i + side], token="person", mask=mask) for side, mask in enumerate((left, 1 - left))]
        for i in range(0, 2 * pairs, 2)
    ]
    other = own.unflatten(0, (pairs, 2)).flip(1).flatten(0, 1)
    rows = []
    for scale in (None, *SCALES):
        drawn = draw(pipeline, texts, subjects, scale, steps)
        halves = np.stack([crop_subject(picture, side) for picture in drawn for side in range(2)])
        rows.append(_row(f"two people, {_said(scale)}", _cosines(recogniser.read(halves)[0], own, other)))
    return rows


def _scene_of(who: Sequence[Person], rng: np.random.Generator) -> Scene:
    scene = random_scene(rng, tuple(who))
    return replace(scene, looks=tuple(replace(look, role="person") for look in scene.looks))


def portraits(recogniser: Recogniser, who: Sequence[Person]) -> tuple[list[Image.Image], Tensor]:
    """Photos of people, and their embeddings (N, D)."""
    pixels = np.stack([render(portrait(one), np.random.default_rng(0)) for one in who])
    return [Image.fromarray(one) for one in pixels], recogniser.read(pixels)[0]


def draw(pipeline: Any, texts: list[str], subjects: list[Any], scale: float | None, steps: int) -> np.ndarray:
    """Pictures (N, 32, 32, 3), with the photos at a scale, or without them."""
    given = {"nested_adapter_image": subjects} if scale is not None else {}
    if scale is not None:
        pipeline.set_nested_adapter_scale(scale)
    return sample(pipeline, texts, range(len(texts)), num_inference_steps=steps, **given)


def _cosines(seen: Tensor, own: Tensor, other: Tensor) -> dict[str, float]:
    return {"identity": float((seen * own).sum(-1).mean()), "another's": float((seen * other).sum(-1).mean())}


def _said(scale: float | None) -> str:
    if scale is None:
        return "no photo"
    return f"scale {scale:g}" if scale < 1 else f"λ = {scale:g}"


def _row(case: str, scores: Mapping[str, Any]) -> Row:
    return {"case": case, "scores": {name: round(float(value), 3) for name, value in scores.items()}}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--people", type=int, default=24, help="in each role, and pairs of people")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    pipeline = StableDiffusionXLPipeline.from_pretrained(options.pipeline, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_nested_adapter(options.adapter, adapter_name="person")
    found = measure(pipeline, miniature.load_recogniser(), options.people, options.steps)
    options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
