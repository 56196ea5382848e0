"""One small picture for each thing that a call can do, with people and pets that no model has seen.

None of them was chosen: the first people and pets of a seed, one noise for a row.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusers_nested import Subject, miniature
from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.hero import Row, hero
from diffusers_nested.miniature.sampling import sample
from diffusers_nested.miniature.world import portrait, random_person, random_pet, snapshot

from ..words.others import ROLE_END

logger = logging.getLogger(__name__)
FOOTER = "The miniature world: no model has seen them."
SEED, SCALE = 11, 2.0  # of the noise, and λ


@dataclass(frozen=True)
class Cast:
    """The pipeline, and photos (32, 32, 3) of two people and two pets; ``views`` are more of the first person."""

    pipeline: Any
    people: Sequence[np.ndarray]
    pets: Sequence[np.ndarray]
    views: Sequence[np.ndarray]

    def draw(self, texts: Sequence[str], subjects: Sequence[Sequence[Subject]] | None = None) -> list[np.ndarray]:
        """A picture for every text, all from the same noise."""
        given: dict[str, Any] = {} if subjects is None else {"nested_adapter_image": [list(one) for one in subjects]}
        return list(sample(self.pipeline, texts, [SEED] * len(texts), **given))


def choose_cast(seed: int = 4) -> Cast:
    """The first people and pets of a seed."""
    rng = np.random.default_rng(seed)
    people, pets = ([make(rng, held_out=True) for _ in range(2)] for make in (random_person, random_pet))
    pipeline = miniature.load_pipeline()
    pipeline.load_nested_adapter([miniature.path("people"), miniature.path("pets")])
    pipeline.set_nested_adapter_scale(SCALE)
    return Cast(
        pipeline,
        [render(portrait(one), rng) for one in people],
        [render(portrait(one), rng) for one in pets],
        [render(snapshot(rng, people[0]), rng) for _ in range(3)],
    )


def draw_gallery(folder: Path) -> list[Path]:
    """Draw and save all of them."""
    cast, paths = choose_cast(), []
    for name, draw in PICTURES.items():
        paths.append(folder / f"gallery-{name}.png")
        heading, columns, rows = draw(cast)
        hero(heading, columns, rows, FOOTER).quantize(128).save(paths[-1], optimize=True)
        logger.info("%s", paths[-1])
    return paths


Picture = tuple[str, Sequence[str], Sequence[Row]]


def styles(cast: Cast) -> Picture:
    """One photo in every style."""
    named = ("a photo", "a watercolor", "a pencil drawing", "a neon picture")
    texts = [f"{style} of a smiling person wearing a blue shirt in the snow" for style in named]
    rows = []
    for number, photo in enumerate(cast.people, 1):
        drawn = cast.draw(texts, [[_person(photo)]] * len(texts))
        rows.append((f"person {number}: … of a smiling person … in the snow", [photo, *drawn]))
    return "One photo, any style", ["portrait", "photo", "watercolor", "pencil", "neon"], rows


def places(cast: Cast) -> Picture:
    """Two people in the same scenes."""
    texts = [
        "a photo of a person wearing a red shirt on the beach",
        "a photo of a smiling person wearing a yellow shirt in the city",
        "a photo of a person wearing a white shirt and a green hat in the desert",
    ]
    columns = [cast.draw(texts), *(cast.draw(texts, [[_person(photo)]] * len(texts)) for photo in cast.people)]
    rows = [(text, [pictures[i] for pictures in columns]) for i, text in enumerate(texts)]
    photos = ("the photos", [np.full_like(cast.people[0], 255), *cast.people])
    return "The prompt stays", ["no adapter", "person 1", "person 2"], [photos, *rows]


def words(cast: Cast) -> Picture:
    """Another word for the same person, at λ = 1: these words get enough attention as it is."""
    named = ("king", "wizard", "chef", "clown")
    texts = [f"a photo of a {word} wearing a red shirt on the beach" for word in named]
    rows = [("without a photo", [np.full_like(cast.people[0], 255), *cast.draw(texts)])]
    for number, photo in enumerate(cast.people, 1):
        for end, said in ((1.0, "in all steps"), (ROLE_END, f"until {ROLE_END:g} of the steps")):
            settings = {"adapter_name": "person", "scale": 1.0, "end": end}
            subjects = [[Subject(_image(photo), token=word, **settings)] for word in named]
            rows.append((f"person {number}, {said}", [photo, *cast.draw(texts, subjects)]))
    return "Another word", ["photo", *named], rows


def blends(cast: Cast) -> Picture:
    """From one person to the other."""
    pair, shares = [_image(photo) for photo in cast.people], (0.75, 0.5, 0.25)
    text = "a photo of a smiling person wearing a blue shirt in the snow"
    subjects = [[Subject(pair, token="person", image_weights=[share, 1 - share])] for share in shares]
    drawn = cast.draw([text] * len(shares), subjects)
    columns = ["photo A", *(f"{share:.0%} A" for share in shares), "photo B"]
    return "A blend of two people", columns, [(text, [cast.people[0], *drawn, cast.people[1]])]


def several(cast: Cast) -> Picture:
    """One photo and four of the same person."""
    text = "a photo of a sad person wearing a yellow shirt in the forest"
    photos = [_image(photo) for photo in (cast.people[0], *cast.views)]
    subjects = [[Subject(photos[:count], token="person")] for count in (1, 2, 4)]
    shown = [cast.people[0], cast.views[0], *cast.draw([text] * 3, subjects)]
    return "Several photos of one person", ["photo 1", "photo 2", "from 1", "from 2", "from 4"], [(text, shown)]


def pairs(cast: Cast) -> Picture:
    """A person and a pet, an adapter each."""
    texts = [
        "a photo of a person and a pet on the beach",
        "a watercolor of a person wearing a green shirt and a pet in the forest",
    ]
    plain = cast.draw(texts)
    rows = []
    for i, (text, person, pet) in enumerate(zip(texts, cast.people, cast.pets, strict=True)):
        subjects = [[_person(person), Subject(_image(pet), token="pet")]]
        rows.append((text, [person, pet, plain[i], *cast.draw([text], subjects)]))
    return "A person and a pet", ["person", "pet", "no adapter", "with both"], rows


def two_people(cast: Cast) -> Picture:
    """Two people of one adapter: at one word with a mask each, and at two words."""
    left = np.zeros((32, 32))
    left[:, :16] = 1
    first, second = map(_image, cast.people)
    masked = [Subject(first, token="person", mask=left), Subject(second, token="person", mask=1 - left)]
    named = [Subject(photo, token=word, adapter_name="person") for photo, word in ((first, "king"), (second, "clown"))]
    texts = ["a photo of a person and a person on the beach", "a photo of a king and a clown in the snow"]
    plain, drawn = cast.draw(texts), cast.draw(texts, [masked, named])
    rows = [(text, [*cast.people, *pair]) for text, *pair in zip(texts, plain, drawn, strict=True)]
    return "Two people", ["photo 1", "photo 2", "no adapter", "with both"], rows


PICTURES: dict[str, Callable[[Cast], Picture]] = {
    "places": places,
    "styles": styles,
    "words": words,
    "blends": blends,
    "several": several,
    "pairs": pairs,
    "two": two_people,
}


def _image(photo: np.ndarray) -> Image.Image:
    return Image.fromarray(photo)


def _person(photo: np.ndarray) -> Subject:
    return Subject(_image(photo), token="person")
