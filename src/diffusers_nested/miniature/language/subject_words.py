"""One subject of a caption in words: attributes, noun, and clauses on traits and clothes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from ..world import Look, Person, Pet
from . import vocabulary as v
from .splits import on_side, pairs_of

T = TypeVar("T")
Piece = tuple[str, str]  # a word, and what it belongs to


@dataclass(frozen=True)
class Subject:
    """A subject in words, its noun, what can be looked for in the picture, and the pairs of words used."""

    words: list[Piece]
    noun: str
    named: dict[str, str]
    pairs: list[str]

    @classmethod
    def draw(
        cls, number: int, who: Person | Pet, look: Look, rng: np.random.Generator, traits: float, held_out: bool
    ) -> "Subject":
        """Choose the words for subject ``number`` of a picture."""
        described = rng.random() < traits
        if isinstance(who, Person):
            before, clauses, noun = _person(who, look, rng, described)
        else:
            before, clauses, noun = _pet(who, rng, described)
        named: dict[str, str] = {}
        _mood(look, rng, before, clauses, named)
        if rng.random() < 0.07:
            before.insert(0, pick(rng, v.ADJECTIVES))
        clothes, pairs = _clothes(look, rng, held_out, named)
        if clothes:
            clauses.insert(0 if rng.random() < 0.4 else len(clauses), clothes)
        words = [*spoken(" ".join(before), "attribute"), *spoken(noun, f"noun {number}")]
        article = pick(rng, v.ARTICLES, first=0.8)
        if article == "a" and words[0][0][0] in "aeiou":
            article = "an"
        words = [*spoken(article), *words]
        for i, clause in enumerate(clauses):
            words += spoken(f"and {clause}" if i and rng.random() < 0.5 else clause)
        return cls(words, noun, named, pairs)


def pick(rng: np.random.Generator, options: Sequence[T], first: float | None = None) -> T:
    """One of the options by lot; ``first`` is the probability of the first, where it is the usual one."""
    if first is not None and rng.random() < first:
        return options[0]
    return options[int(rng.integers(len(options)))]


def spoken(text: str, tag: str = "") -> list[Piece]:
    """The words of a text, all with the same tag."""
    return [(word, tag) for word in text.split()]


def _mood(look: Look, rng: np.random.Generator, before: list[str], clauses: list[str], named: dict[str, str]) -> None:
    if rng.random() < (0.9 if look.expression == "neutral" else 0.1):
        return
    adjectives, later = v.EXPRESSIONS[look.expression]
    if rng.random() < 0.65:
        before.insert(0, pick(rng, adjectives, first=0.4))
    else:
        clauses.append(pick(rng, later))
    named["expression"] = look.expression


def _clothes(look: Look, rng: np.random.Generator, held_out: bool, named: dict[str, str]) -> tuple[str, list[str]]:
    """A clause on shirt and hat, or none, and the pairs of words in it. Held-out captions name what there is."""
    worn: list[str] = []
    pairs: list[str] = []
    verb = ""
    if look.shirt != "grey" and (held_out or rng.random() < 0.88):
        verb, garment, shade = pick(rng, _ways("shirt", look.shirt, held_out), first=0.15)
        worn.append(f"{_article(shade)} {shade} {garment}")
        pairs += pairs_of((verb, garment, shade))
        named["shirt"] = look.shirt
    if look.hat != "none" and (held_out or rng.random() < 0.88):
        first_verb, garment, shade = pick(rng, _ways("hat", look.hat, held_out), first=0.15)
        own = pairs_of((first_verb, garment, shade))
        pairs += own[1:] if verb else own  # the verb stands before the shirt, if there is one
        verb = verb or first_verb
        worn.append(f"{_article(shade)} {shade} {garment}")
        named["hat"] = look.hat
    if rng.random() < 0.5:
        worn.reverse()
    if look.role != "person" and rng.random() < 0.3:
        worn.append(pick(rng, v.ATTIRE[look.role]))
        verb = verb or v.WEARING[0]
    return (f"{verb} {' and '.join(worn)}" if worn else ""), pairs


@cache
def _ways(part: str, colour: str, held_out: bool) -> list[tuple[str, ...]]:
    """All (verb, garment, colour word) for a shirt or a hat of a colour, the usual one first."""
    garments = v.SHIRTS if part == "shirt" else v.HATS
    ways = [(verb, garment, shade) for shade in v.COLOURS[colour] for garment in garments for verb in v.WEARING]
    return on_side(ways, held_out)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _person(who: Person, look: Look, rng: np.random.Generator, described: bool) -> tuple[list[str], list[str], str]:
    """Attributes before the noun, clauses after it, and the noun."""
    noun = pick(rng, v.PEOPLE, first=0.9)
    if look.role != "person" and rng.random() < 0.7:
        noun = pick(rng, v.ROLES[look.role], first=0.6)
    if not described:
        return [], [], noun
    if noun in v.PEOPLE and rng.random() < 0.5:
        fitting = [name for name, fits in v.APPEARANCE.items() if fits(who)]
        noun = pick(rng, fitting) if fitting else noun
    before, clauses = [], []
    skin, hair, eyes, glasses, beard, early = rng.random(6)
    hair_word = pick(rng, v.HAIR[who.hair], first=0.7)
    if glasses < 0.5:
        clauses.append(_glasses(who, rng))
    if hair < 0.45:
        before += [v.HAIRED[who.hair_style]] if who.hair_style in v.HAIRED and rng.random() < 0.5 else []
        before.append(f"{hair_word}-haired" if rng.random() < 0.7 else f"{hair_word} haired")
    elif hair < 0.75:
        clauses.append(_with(pick(rng, v.HAIR_STYLES[who.hair_style], first=0.5).format(hair_word), rng))
    if beard < 0.5 and who.beard != "none":
        later, adjective = v.BEARDS[who.beard]
        (before if early < 0.6 else clauses).append(adjective if early < 0.6 else _with(pick(rng, later), rng))
    if eyes < 0.35:
        colour = pick(rng, v.EYES[who.eyes], first=0.8)
        (before if early < 0.5 else clauses).append(f"{colour}-eyed" if early < 0.5 else _with(f"{colour} eyes", rng))
    if skin < 0.5:
        before.append(pick(rng, v.SKIN[who.skin], first=0.6))
    rng.shuffle(before)
    return before, clauses, noun


def _glasses(who: Person, rng: np.random.Generator) -> str:
    if who.glasses == "none":
        return pick(rng, v.BARE_EYES)
    verb = pick(rng, ("with", "wearing", "who wears", "in"), first=0.5)
    return f"{verb} {pick(rng, v.GLASSES, first=0.6).format(who.glasses)}"


def _with(thing: str, rng: np.random.Generator) -> str:
    return f"{pick(rng, v.HAVING, first=0.7)} {thing}"


def _pet(who: Pet, rng: np.random.Generator, described: bool) -> tuple[list[str], list[str], str]:
    """Attributes before the noun, clauses after it, and the noun."""
    noun = pick(rng, v.PETS, first=0.9)
    if not described:
        return [], [], noun
    if rng.random() < 0.6:
        noun = pick(rng, v.SPECIES[who.species], first=0.6)
    before, clauses = [], []
    fur, pattern, eyes = rng.random(3)
    if fur < 0.75:
        colour = pick(rng, v.FUR[who.fur], first=0.7)
        if rng.random() < 0.75:
            before.append(colour if rng.random() < 0.8 else f"{colour}-furred")
        else:
            clauses.append(_with(f"{colour} fur", rng))
    if pattern < 0.4 and who.pattern != "plain":
        clauses.append(_with(pick(rng, v.PATTERNS[who.pattern], first=0.6), rng))
    if eyes < 0.35:
        colour = pick(rng, v.EYES[who.eyes], first=0.8)
        if rng.random() < 0.4:
            before.append(f"{colour}-eyed")
        else:
            clauses.append(_with(f"{colour} eyes", rng))
    return before, clauses, noun
