"""Captions of few words, from which the first base, the vision tower and the recogniser learn."""

import numpy as np

from diffusers_nested.miniature.world import Look, Person, Pet, Scene

_STYLE = {
    "photo": "a photo of",
    "watercolor": "a watercolor of",
    "pencil": "a pencil drawing of",
    "neon": "a neon picture of",
}
_PLACE = {
    "beach": "on the beach",
    "snow": "in the snow",
    "forest": "in the forest",
    "city": "in the city",
    "desert": "in the desert",
    "room": "in a room",
    "studio": "",
}


def describe(scene: Scene, rng: np.random.Generator, traits: float = 0.6) -> str:
    """Write a caption of the scene.

    Args:
        scene: What the picture shows.
        rng: Chooses the traits to name.
        traits: Probability of describing a subject's identity at all; otherwise the caption only says "person" or
            "pet", so that the plain word stays open.
    """
    parts = [_subject(subject, look, rng, traits) for subject, look in zip(scene.subjects, scene.looks, strict=True)]
    return " ".join(f"{_STYLE[scene.style]} {' and '.join(parts)} {_PLACE[scene.place]}".split())


def plain_caption(scene: Scene) -> str:
    """The caption without any identity, as used to train adapters."""
    return describe(scene, np.random.default_rng(0), traits=0.0)


def _subject(subject: Person | Pet, look: Look, rng: np.random.Generator, traits: float) -> str:
    named = rng.random() < traits
    noun = look.role if isinstance(subject, Person) else "pet"
    if isinstance(subject, Person):
        before, after = _person_traits(subject, rng) if named else ([], [])
    else:
        before, after = _pet_traits(subject, rng) if named else ([], [])
        if named and rng.random() < 0.6:
            noun = subject.species
    mood = [] if look.expression == "neutral" else [look.expression]
    words = ["a", *mood, *before, noun]
    if after:
        words += ["with", " and ".join(after)]
    clothes = [] if look.shirt == "grey" else [f"a {look.shirt} shirt"]
    clothes += [] if look.hat == "none" else [f"a {look.hat} hat"]
    if clothes:
        words += ["wearing", " and ".join(clothes)]
    return " ".join(words)


def _person_traits(who: Person, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    before, after = [], []
    skin, hair, eyes, glasses, beard = rng.random(5)
    if skin < 0.5:
        before.append(who.skin)
    if hair < 0.4:
        before.append(f"{who.hair} haired")
    elif hair < 0.8:
        after.append(f"{who.hair_style} {who.hair} hair")
    if eyes < 0.35:
        after.append(f"{who.eyes} eyes")
    if glasses < 0.6:
        after.append("no glasses" if who.glasses == "none" else f"{who.glasses} glasses")
    if beard < 0.4 and who.beard != "none":
        after.append(f"a {who.beard}")
    return before, after


def _pet_traits(who: Pet, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    before, after = [], []
    fur, pattern, eyes = rng.random(3)
    if fur < 0.7:
        before.append(who.fur)
    if pattern < 0.4 and who.pattern != "plain":
        after.append(f"a {who.pattern}")
    if eyes < 0.35:
        after.append(f"{who.eyes} eyes")
    return before, after
