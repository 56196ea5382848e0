"""Captions of the miniature world from a grammar: one scene in many wordings, some of them kept apart for testing.

What is held out is a *pair* of words that stand together in a sentence: a style's name and the form of the sentence, a
place and the form of the sentence, a garment and the verb before it, a garment and its colour. One pair in five, by the
checksum of its text, is never used in training. A held-out caption is made of such pairs only: its words are known,
and how they come together is new.
"""

from dataclasses import dataclass, field

import numpy as np

from ..world import Scene
from . import vocabulary as v
from .splits import is_held_out, on_side
from .subject_words import Piece, Subject, pick, spoken

# S style, M manner, N subjects, P place; the rest as it stands
FORMS = ("S of N P", "P , S of N", "N P , M", "S of N , P", "M : N P", "N , M , P")


@dataclass(frozen=True)
class Caption:
    """A sentence and what it says.

    Attributes:
        words: Its words and punctuation, each with what it belongs to: "noun 0", "noun 1", "place",
            "attribute" (before a noun) or "".
        pairs: The pairs of words that decide whether it may be used in training.
        named: Per subject, what can be looked for in the picture: style, place, shirt, hat, expression.
        nouns: The nouns of the subjects.
    """

    words: tuple[Piece, ...]
    pairs: tuple[str, ...]
    named: tuple[dict[str, str], ...]
    nouns: tuple[str, ...]
    text: str = field(init=False)

    def __post_init__(self) -> None:
        text = " ".join(word for word, _ in self.words)
        object.__setattr__(self, "text", text.replace(" ,", ",").replace(" :", ":"))


def describe(scene: Scene, rng: np.random.Generator, traits: float = 0.55, held_out: bool = False) -> Caption:
    """Put a scene into words.

    Args:
        scene: What the picture shows.
        rng: Chooses what is named, and how.
        traits: Probability that a subject's identity is described at all; the rest says "person" or "pet".
        held_out: Use only pairs of words that training never uses, and name style, place and shirt; else only others.
    """
    while True:
        caption = _attempt(scene, rng, traits, held_out)
        known = [not is_held_out(pair) for pair in caption.pairs]
        if all(known) if not held_out else not any(known[:2]):
            return caption


def plain_caption(scene: Scene, rng: np.random.Generator, held_out: bool = False) -> Caption:
    """A caption with the words "person" and "pet", and without any other word on an identity."""
    while True:
        caption = describe(scene, rng, 0.0, held_out)
        if set(caption.nouns) <= {"person", "pet"}:
            return caption


def _attempt(scene: Scene, rng: np.random.Generator, traits: float, held_out: bool) -> Caption:
    form, pairs, said = pick(rng, FORMS, first=0.4), [], {}
    together = zip(scene.subjects, scene.looks, strict=True)
    subjects = [Subject.draw(i, *one, rng, traits, held_out) for i, one in enumerate(together)]
    styles = (v.STYLES if "S" in form else v.MANNERS)[scene.style]
    style = _one_of(form, styles, rng, held_out, silent=0.15 if scene.style == "photo" else 0.0)
    place = _one_of(form, v.PLACES[scene.place], rng, held_out, silent=0.06)
    for kind, words, shown in (("style", style, scene.style), ("place", place, scene.place)):
        if words:
            pairs.append(f"{form} | {words}")
            said[kind] = shown
    pairs += [pair for one in subjects for pair in one.pairs]
    named = tuple({**said, **one.named} for one in subjects)
    return Caption(_sentence(form, style, place, subjects, rng), tuple(pairs), named, tuple(s.noun for s in subjects))


def _one_of(form: str, options: tuple[str, ...], rng: np.random.Generator, held_out: bool, silent: float) -> str:
    """A name of a style or a place that may stand in this form of sentence; in training, now and then none."""
    if not held_out and rng.random() < silent:
        return ""
    return pick(rng, on_side([(form, name) for name in options], held_out), first=0.35)[1]


def _sentence(
    form: str, style: str, place: str, subjects: list[Subject], rng: np.random.Generator
) -> tuple[Piece, ...]:
    """The form filled in."""
    parts = {"S": spoken(style), "M": spoken(style), "P": spoken(place, "place"), "N": _joined(subjects, rng)}
    words: list[Piece] = []
    for symbol in form.split():
        words += parts.get(symbol, [(symbol, "")] if symbol != "of" or style else [])
    if rng.random() < 0.08:
        words += spoken(f", {pick(rng, v.TAILS)}")
    return _tidy(words)


def _joined(subjects: list[Subject], rng: np.random.Generator) -> list[Piece]:
    """One or two subjects from left to right."""
    if len(subjects) == 1:
        return subjects[0].words
    between = pick(rng, v.BETWEEN, first=0.5)
    return [*subjects[0].words, *spoken(between), *subjects[1].words]


def _tidy(words: list[Piece]) -> tuple[Piece, ...]:
    """Without punctuation at the ends or twice in a row, which is left where a part was left out."""
    kept: list[Piece] = []
    for word in words:
        if word[0] in (",", ":") and (not kept or kept[-1][0] in (",", ":")):
            continue
        kept.append(word)
    while kept and kept[-1][0] in (",", ":"):
        kept.pop()
    return tuple(kept)
