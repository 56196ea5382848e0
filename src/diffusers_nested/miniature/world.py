"""Identities and scenes of the miniature world, and random draws of them.

An identity is everything about a subject that stays the same from picture to picture. One identity in ten is held out:
no model of the miniature is ever trained on it.
"""

import zlib
from dataclasses import astuple, dataclass

import numpy as np

RGB = tuple[int, int, int]

SKIN: dict[str, RGB] = {
    "pale": (250, 218, 190),
    "tan": (222, 168, 118),
    "brown": (158, 102, 66),
    "dark": (88, 54, 38),
}
HAIR: dict[str, RGB] = {
    "black": (26, 24, 30),
    "brown": (112, 66, 30),
    "blond": (246, 208, 84),
    "red": (206, 52, 24),
    "white": (236, 236, 240),
    "blue": (46, 88, 232),
    "green": (40, 172, 72),
    "pink": (250, 104, 182),
}
HAIR_STYLES = ("short", "long", "curly", "mohawk", "bun", "pigtails")
EYES: dict[str, RGB] = {
    "blue": (40, 120, 255),
    "green": (20, 170, 60),
    "brown": (92, 48, 16),
    "purple": (160, 40, 210),
}
GLASSES: dict[str, RGB | None] = {
    "none": None,
    "black": (10, 10, 14),
    "red": (226, 20, 30),
    "white": (255, 255, 255),
}
BEARDS = ("none", "moustache", "beard")

SPECIES = ("cat", "dog", "rabbit", "bear")
FUR: dict[str, RGB] = {
    "black": (44, 42, 48),
    "white": (240, 238, 234),
    "grey": (146, 148, 156),
    "brown": (124, 78, 42),
    "orange": (240, 142, 40),
    "cream": (246, 220, 166),
    "blue": (92, 140, 232),
    "pink": (248, 150, 190),
}
PATTERNS = ("plain", "patch", "blaze", "mask")

CLOTH: dict[str, RGB] = {
    "red": (216, 36, 36),
    "blue": (36, 84, 220),
    "green": (34, 156, 66),
    "yellow": (248, 212, 36),
    "purple": (136, 56, 190),
    "orange": (246, 126, 26),
    "black": (30, 30, 34),
    "white": (244, 244, 246),
    "grey": (128, 134, 142),
}
PLACES = ("beach", "snow", "forest", "city", "desert", "room", "studio")
EXPRESSIONS = ("neutral", "smiling", "sad")
STYLES = ("photo", "watercolor", "pencil", "neon")
ROLES = ("person", "king", "wizard", "chef", "clown")


@dataclass(frozen=True)
class Person:
    """The identity of a person; ``shade`` is a small personal offset of skin and hair colour."""

    skin: str
    hair: str
    hair_style: str
    eyes: str
    glasses: str
    beard: str
    shade: tuple[int, ...] = (0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Pet:
    """The identity of a pet; ``shade`` is a small personal offset of the fur's colour."""

    species: str
    fur: str
    pattern: str
    eyes: str
    shade: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True)
class Look:
    """What a subject wears and shows in one picture, independent of its identity."""

    shirt: str = "grey"
    hat: str = "none"
    expression: str = "neutral"
    role: str = "person"


@dataclass(frozen=True)
class Scene:
    """A picture: subjects from left to right with their looks, a place and a style."""

    subjects: tuple[Person | Pet, ...]
    looks: tuple[Look, ...]
    place: str = "studio"
    style: str = "photo"


def is_held_out(identity: Person | Pet) -> bool:
    """Whether no model is trained on this identity, as on one in ten; the shade does not count."""
    return zlib.crc32(repr(astuple(identity)[:-1]).encode()) % 10 == 0


def random_person(rng: np.random.Generator, held_out: bool = False) -> Person:
    """Draw a random person, from the held-out identities or from the others."""
    while True:
        glasses = "none" if rng.random() < 0.5 else _pick(rng, ("black", "red", "white"))
        beard = "none" if rng.random() < 0.5 else _pick(rng, BEARDS[1:])
        person = Person(_pick(rng, SKIN), _pick(rng, HAIR), _pick(rng, HAIR_STYLES), _pick(rng, EYES), glasses, beard)
        if is_held_out(person) == held_out:
            shade = tuple(int(x) for x in rng.integers(-9, 10, 6))
            return Person(*astuple(person)[:-1], shade=shade)


def random_pet(rng: np.random.Generator, held_out: bool = False) -> Pet:
    """Draw a random pet, from the held-out identities or from the others."""
    while True:
        pet = Pet(_pick(rng, SPECIES), _pick(rng, FUR), _pick(rng, PATTERNS), _pick(rng, EYES))
        if is_held_out(pet) == held_out:
            return Pet(*astuple(pet)[:-1], shade=tuple(int(x) for x in rng.integers(-9, 10, 3)))


def random_look(rng: np.random.Generator, human: bool) -> Look:
    """Draw clothes, an expression and, for people, sometimes a role such as king."""
    role = _pick(rng, ROLES[1:]) if human and rng.random() < 0.16 else "person"
    hat = "none" if role != "person" or rng.random() < 0.7 else _pick(rng, CLOTH)
    shirt = "grey" if rng.random() < 0.2 else _pick(rng, CLOTH)
    return Look(shirt, hat, _pick(rng, EXPRESSIONS), role)


def random_scene(rng: np.random.Generator, subjects: tuple[Person | Pet, ...]) -> Scene:
    """Draw a random scene with given subjects."""
    looks = tuple(random_look(rng, isinstance(s, Person)) for s in subjects)
    place = "studio" if rng.random() < 0.08 else _pick(rng, PLACES[:-1])
    style = "photo" if rng.random() < 0.58 else _pick(rng, STYLES[1:])
    return Scene(subjects, looks, place, style)


def random_subjects(rng: np.random.Generator, duo: float = 0.25, pets: float = 0.3) -> tuple[Person | Pet, ...]:
    """Draw a person, a pet or, with probability ``duo``, a person and a pet in either order."""
    if rng.random() < duo:
        pair = (random_person(rng), random_pet(rng))
        return pair if rng.random() < 0.5 else pair[::-1]
    return (random_pet(rng),) if rng.random() < pets else (random_person(rng),)


def portrait(subject: Person | Pet) -> Scene:
    """The reference photo of a subject: studio, grey shirt, neutral face, no hat."""
    return Scene((subject,), (Look(),))


def snapshot(rng: np.random.Generator, subject: Person | Pet) -> Scene:
    """Draw a photo of the subject in a random scene."""
    scene = random_scene(rng, (subject,))
    return Scene(scene.subjects, scene.looks, scene.place)  # a photo, whatever the style of the scene


def _pick(rng: np.random.Generator, options) -> str:
    names = tuple(options)
    return names[int(rng.integers(len(names)))]
