"""Prompts of the miniature, and what they name in the terms of its recogniser."""

from collections.abc import Sequence

from ..errors import NestedAdapterError
from .language.known import words_of
from .language.reading import Said, is_one_group, said_in

# Held-out wordings: no style, place or garment stands in them as in a training caption, but for what is purple, which
# has no wording to itself.
PROMPTS = (
    "a {} dressed in a red blouse, a real photo, at the seaside",
    "in winter, a snapshot of a smiling {} dressed in a blue blouse",
    "as a photo: a sad {} having on a yellow jumper among trees",
    "a {} dressed in a snow white sweater and a green cap, a real photo, in a dry desert",
    "a {} wearing a lilac top, in watercolour, downtown",
    "by a window, a glowing neon image of a {} dressed in a crimson sweater",
)
PAIR_PROMPTS = (
    "a smiling person dressed in a blue blouse and a pet dressed in a red blouse, a real photo, at the seaside",
    "in winter, a snapshot of a pet dressed in a green cap and a sad person having on a snow white jumper",
    "a person wearing an olive top and a pet, in watercolour, in a dry desert",
    "as a photo: a sad person who has on a lemon cap and a pet dressed in a red blouse downtown",
    "as a photo: a pet wearing a lilac top and a person dressed in a blue blouse in a green forest",
)


def wanted(prompt: str, order: Sequence[str]) -> list[dict[str, str]]:
    """What a prompt asks for, by all words of the miniature's language.

    Args:
        prompt: The prompt.
        order: The words of its subjects, in the order in which the prompt names them.

    Returns:
        Per subject, those of place, style, shirt, hat and expression that the prompt names. Place and style hold for
        all subjects; clothes belong to the subject before them, an expression to the noun that it stands before, or
        else to the subject before it.

    Raises:
        NestedAdapterError: The prompt lacks a subject's word.
    """
    words = words_of(prompt)
    nouns = _positions(words, order)
    said = list(said_in(words))
    styles = sorted((one for one in said if one.kind == "style"), key=lambda one: one.answer == "photo")
    places = [one for one in said if one.kind == "place"]
    shared = {one.kind: one.answer for one in (*styles[:1], *places[:1])}
    named = [dict(shared) for _ in order]
    for one in said:
        if one.kind in ("shirt", "hat", "expression", "clause"):
            kind = one.kind.replace("clause", "expression")
            named[_owner(one, words, nouns)][kind] = one.answer
    return named


def place_of(prompt: str, word: str) -> int:
    """Where a subject's word, or words, first stand among the words of a prompt.

    Raises:
        NestedAdapterError: They do not.
    """
    return _positions(words_of(prompt), [word])[0]


def _positions(words: Sequence[str], order: Sequence[str]) -> list[int]:
    """Where the subjects' words stand, each after the one before."""
    found: list[int] = []
    for name in order:
        own = words_of(name)
        starts = range(found[-1] + 1 if found else 0, len(words))
        here = next((start for start in starts if words[start : start + len(own)] == own), None)
        if here is None:
            raise NestedAdapterError(f"The prompt {' '.join(words)!r} has no word {name!r} where its subject is to be.")
        found.append(here)
    return found


def _owner(one: Said, words: Sequence[str], nouns: Sequence[int]) -> int:
    """The number of the subject that something is said of."""
    before = max((number for number, noun in enumerate(nouns) if noun < one.start), default=0)
    after = next((number for number, noun in enumerate(nouns) if noun >= one.end), None)
    if one.kind == "expression" and after is not None and is_one_group(words[one.end : nouns[after]]):
        return after
    return before
