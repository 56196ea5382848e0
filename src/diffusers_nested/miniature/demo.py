"""The demo: a poster of what an adapter does, with people and pets that no model has seen."""

import logging
from typing import Any

import numpy as np
from PIL import Image

from ..subjects import Subject
from . import load_pipeline, path
from .drawing import render
from .poster import Panel, poster
from .sampling import sample
from .world import Person, Pet, portrait, random_person, random_pet, snapshot

logger = logging.getLogger(__name__)

PROMPTS = (
    "a photo of a person wearing a red shirt on the beach",
    "a photo of a smiling person wearing a blue shirt in the snow",
    "a photo of a sad person wearing a yellow shirt in the forest",
    "a photo of a person wearing a white shirt and a green hat in the desert",
    "a watercolor of a smiling person wearing a purple shirt in the city",
    "a neon picture of a person wearing a green shirt in a room",
)
SCALES = (1.0, 2.0, 4.0)
SEED = 11  # of the noise, the same for all pictures of a row


def draw_demo(seed: int = 4) -> Image.Image:
    """Generate all pictures and lay them out on one poster."""
    rng = np.random.default_rng(seed)
    people = [random_person(rng, held_out=True) for _ in range(3)]
    pets = [random_pet(rng, held_out=True) for _ in range(2)]
    pipeline = load_pipeline()
    pipeline.load_nested_adapter([path("people"), path("pets")])
    logger.info("three people in six scenes, plain and at λ = 1, 2, 4")
    panels = [scenes_panel(pipeline, people, rng)]
    logger.info("several photos, a blend, other words, a person with a pet")
    panels += [more_panel(pipeline, people, rng), pets_panel(pipeline, people, pets, rng)]
    return poster(
        panels,
        "Nested attention: a photo becomes a word of the prompt",
        "The miniature world of diffusers-nested: 32 x 32 pixels, a real SDXL pipeline. "
        "No identity shown here was in any training data.",
    )


def scenes_panel(pipeline: Any, people: list[Person], rng: np.random.Generator) -> Panel:
    """Rows of prompts: the plain pipeline, and each person at three scales."""
    photos = [render(portrait(person), rng) for person in people]
    seeds = [SEED + i for i in range(len(PROMPTS))]
    columns = [sample(pipeline, PROMPTS, seeds)]
    headings = ["no adapter"]
    for photo in photos:
        for scale in SCALES:
            subject = Subject(_image(photo), token="person", scale=scale)
            columns.append(sample(pipeline, PROMPTS, seeds, nested_adapter_image=subject))
            headings.append(f"scale {scale:g}")
    top: list[np.ndarray | None] = [None]
    for photo in photos:
        top += [photo, None, None]
    rows = [("the photo", top), *((p, [column[i] for column in columns]) for i, p in enumerate(PROMPTS))]
    return Panel("The same prompts with three people", headings, rows)


def more_panel(pipeline: Any, people: list[Person], rng: np.random.Generator) -> Panel:
    """Several photos of one subject, a blend of two, and other words for the same subject."""
    first, second = (_image(render(portrait(person), rng)) for person in people[:2])
    views = [_image(render(snapshot(rng, people[0]), rng)) for _ in range(3)]
    prompt = "a photo of a smiling {} wearing a blue shirt on the beach"
    several = [first, *views]
    counts = [
        sample(pipeline, [prompt.format("person")], [SEED], nested_adapter_image={"person": several[: n + 1]})[0]
        for n in range(4)
    ]
    blends = [Subject([first, second], token="person", image_weights=[1 - w, w]) for w in (0.0, 0.25, 0.5, 0.75, 1.0)]
    mixed = [sample(pipeline, [prompt.format("person")], [SEED], nested_adapter_image=blend)[0] for blend in blends]
    words = ("king", "wizard", "clown")
    others = [
        sample(
            pipeline,
            [prompt.format(word)],
            [SEED],
            nested_adapter_image=Subject(first, token=word, adapter_name="person"),
        )[0]
        for word in words
    ]
    photos = [np.asarray(photo) for photo in several]
    rows = [
        ("four photos of one person", [*photos, None, None, None, None, None]),
        ("… the first, the first two, three, four of them", [*counts, None, None, None, None, None]),
        ("a blend of two people, from the one to the other", [photos[0], np.asarray(second), *mixed]),
        ("another word for the person: king, wizard, clown", [photos[0], *others]),
    ]
    return Panel(f"More from the same adapter, in the prompt: {prompt.format('person')}", [""] * 9, rows)


def pets_panel(pipeline: Any, people: list[Person], pets: list[Pet], rng: np.random.Generator) -> Panel:
    """People with pets: two adapters, each at its own word."""
    prompts = (
        "a photo of a person and a pet on the beach",
        "a photo of a pet wearing a red shirt and a smiling person in the snow",
        "a watercolor of a person wearing a green shirt and a pet in the forest",
    )
    rows = []
    for person, pet in zip(people, pets, strict=False):
        pair = [render(portrait(subject), rng) for subject in (person, pet)]
        subjects = {"person": _image(pair[0]), "pet": _image(pair[1])}
        pictures = sample(pipeline, prompts, [SEED, SEED + 1, SEED + 2], nested_adapter_image=subjects)
        alone = sample(
            pipeline,
            ["a photo of a smiling pet wearing a red shirt in the desert"],
            [SEED],
            nested_adapter_image={"pet": subjects["pet"]},
        )
        rows.append(("a person with their pet", [*pair, *pictures, alone[0]]))
    return Panel("Two adapters in one picture", ["person", "pet", "beach", "snow", "forest", "the pet alone"], rows)


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture)
