"""The demo: what an adapter does, with people and pets that no model has seen."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..subjects import Subject
from . import load_pipeline, path
from .drawing import render
from .hero import hero
from .poster import Panel, poster
from .prompts import PAIR_PROMPTS, PROMPTS
from .sampling import sample
from .world import Person, Pet, portrait, random_person, random_pet, snapshot

logger = logging.getLogger(__name__)

TITLE = "A photo becomes a word of the prompt"
SCALES = (1.0, 1.5, 2.0, 3.0)
STRONG = 2.0  # of panels with one scale
SEED = 11  # of the noise, the same for all pictures of a row
SHOWN = (PROMPTS[0], PROMPTS[1], PROMPTS[5])  # on the small picture


def draw_demo(seed: int = 4) -> Image.Image:
    """Three people, each in a scene: plain and at four scales."""
    rng = np.random.default_rng(seed)
    pipeline = _pipeline()
    logger.info("three people in three scenes, plain and at %s", ", ".join(map(_named, SCALES)))
    texts, photos = [one.format("person") for one in SHOWN], [render(portrait(one), rng) for one in _people(rng)]
    drawn = dial(pipeline, texts, photos, "person")
    rows = [(text, [photos[i], *drawn[:, i]]) for i, text in enumerate(texts)]
    footer = "The miniature world: no model has seen these people."
    return hero(TITLE, ["photo", "no adapter", *map(_named, SCALES)], rows, footer)


def draw_sheet(seed: int = 4) -> Image.Image:
    """Everything on one large sheet: people, several photos, blends, other words, pets."""
    rng = np.random.default_rng(seed)
    people, pets = _people(rng), [random_pet(rng, held_out=True) for _ in range(2)]
    pipeline = _pipeline()
    logger.info("three people in six scenes, plain and at %s", ", ".join(map(_named, SCALES)))
    panels = [scenes_panel(pipeline, people, rng)]
    logger.info("several photos, a blend, other words, pets")
    panels += [*more_panels(pipeline, people, rng), *pets_panels(pipeline, people, pets, rng)]
    return poster(
        panels,
        f"Nested attention: {TITLE[0].lower()}{TITLE[1:]}",
        "The miniature world of diffusers-nested: 32 x 32 pixels, a real SDXL pipeline. "
        "No identity shown here was in any training data.",
    )


def _pipeline() -> Any:
    pipeline = load_pipeline()
    pipeline.load_nested_adapter([path("people"), path("pets")])
    return pipeline


def _people(rng: np.random.Generator) -> list[Person]:
    return [random_person(rng, held_out=True) for _ in range(3)]


def dial(pipeline: Any, prompts: Sequence[str], photos: Sequence[np.ndarray], word: str) -> np.ndarray:
    """Pictures of the prompts without photos, and with one each at ``SCALES``: uint8 (5, N, 32, 32, 3)."""
    seeds = range(SEED, SEED + len(prompts))
    drawn = [sample(pipeline, prompts, seeds)]
    for scale in SCALES:
        subjects = [[Subject(Image.fromarray(photo), token=word, scale=scale)] for photo in photos]
        drawn.append(sample(pipeline, prompts, seeds, nested_adapter_image=subjects))
    return np.stack(drawn)


def scenes_panel(pipeline: Any, people: Sequence[Person], rng: np.random.Generator) -> Panel:
    """Rows of prompts: the plain pipeline, and each person at four scales."""
    prompts = [prompt.format("person") for prompt in PROMPTS]
    photos = [render(portrait(person), rng) for person in people]
    drawn = [dial(pipeline, prompts, [photo] * len(prompts), "person") for photo in photos]
    columns = [*drawn[0], *(column for one in drawn[1:] for column in one[1:])]
    headings = ["no adapter", *(_named(scale) for _ in people for scale in SCALES)]
    top = [None, *(picture for photo in photos for picture in (photo, *[None] * (len(SCALES) - 1)))]
    rows = [("the photo", top), *((text, [column[i] for column in columns]) for i, text in enumerate(prompts))]
    return Panel("The same prompts with three people", headings, rows)


def more_panels(pipeline: Any, people: Sequence[Person], rng: np.random.Generator) -> list[Panel]:
    """Several photos of one subject, a blend of two, and other words for the same subject."""
    photos = [render(portrait(people[0]), rng), *(render(snapshot(rng, people[0]), rng) for _ in range(3))]
    second = render(portrait(people[1]), rng)
    first, *views = map(Image.fromarray, photos)
    several = [Subject([first, *views][: n + 1], token="person", scale=STRONG) for n in range(4)]
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    pair = [first, Image.fromarray(second)]
    blends = [Subject(pair, token="person", image_weights=[1 - share, share], scale=STRONG) for share in shares]
    words = ("king", "wizard", "chef", "clown")
    others = [Subject(first, token=word, adapter_name="person") for word in words]

    def row(prompt: str, subjects: Sequence[Subject]) -> list[np.ndarray]:
        texts = [prompt.format(one.token) for one in subjects]
        return list(
            sample(pipeline, texts, [SEED] * len(texts), nested_adapter_image=[[subject] for subject in subjects])
        )

    smiling, plain = PROMPTS[1].format("person"), PROMPTS[0]
    names = [f"photo {n + 1}" for n in range(4)], ["the first", "the first two", "the first three", "all four"]
    parts = ["photo A", "photo B", *(f"{1 - share:.0%} A" for share in shares)]
    return [
        Panel(
            f"Several photos of one person, {_named(STRONG)}",
            [*names[0], *names[1]],
            [(smiling, [*photos, *row(smiling, several)])],
        ),
        Panel(
            f"A blend of two people, {_named(STRONG)}", parts, [(smiling, [photos[0], second, *row(smiling, blends)])]
        ),
        Panel(
            "Another word, scale 1",
            ["the photo", *words],
            [(plain.format("…"), [photos[0], *row(plain, others)])],
        ),
    ]


def pets_panels(pipeline: Any, people: Sequence[Person], pets: Sequence[Pet], rng: np.random.Generator) -> list[Panel]:
    """People with pets, two adapters at a word each; and a pet alone."""
    pairs = [[render(portrait(one), rng) for one in pair] for pair in zip(people, pets, strict=False)]
    seeds = range(SEED, SEED + len(PAIR_PROMPTS))
    columns = [sample(pipeline, PAIR_PROMPTS, seeds)]
    for person, pet in pairs:
        subjects = {"person": Image.fromarray(person), "pet": Image.fromarray(pet)}
        columns.append(sample(pipeline, PAIR_PROMPTS, seeds, nested_adapter_image=subjects))
    photos = [(f"the {name}'s photo", [None, *(pair[i] for pair in pairs)]) for i, name in enumerate(("person", "pet"))]
    rows = [*photos, *((text, [column[i] for column in columns]) for i, text in enumerate(PAIR_PROMPTS))]
    prompts, photo = [prompt.format("pet") for prompt in SHOWN], pairs[0][1]
    alone = dial(pipeline, prompts, [photo] * len(prompts), "pet")
    scenes = [(text, [photo, *alone[:, i]]) for i, text in enumerate(prompts)]
    return [
        Panel("A person with a pet: two adapters, scale 1", ["no adapter", "one pair", "another"], rows),
        Panel("A pet", ["the photo", "no adapter", *map(_named, SCALES)], scenes),
    ]


def _named(scale: float) -> str:
    return f"scale {scale:g}"  # the font has no λ
