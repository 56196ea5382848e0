"""What the words of a prompt say that can be looked for in a picture."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from . import vocabulary as v
from .known import words_of

# Left out at the beginning of a phrase, so that other small words in their place are read as well.
_SMALL = {
    *("a", "an", "the", "in", "on", "at", "by", "as", "among", "under", "before", "inside", "with"),
    *("who", "is", "looks", "looking"),
}
_BREAKS = _SMALL - {"a", "an", "the"} | {"and", "beside", "next", "to", "of", "having", "wearing"}


class Said(NamedTuple):
    """What some words of a prompt say.

    Attributes:
        kind: "style", "place", "shirt", "hat", "expression", or "clause" for an expression after its noun.
        answer: As the recogniser puts it.
        start: Index of the first of the words.
        end: Index of the word after the last.
    """

    kind: str
    answer: str
    start: int
    end: int


def said_in(words: Sequence[str]) -> Iterator[Said]:
    """All that the words of a prompt say, from left to right; of phrases that overlap, the first and longest."""
    phrases, longest = _phrases()
    start = 0
    while start < len(words):
        for end in range(min(start + longest, len(words)), start, -1):
            if found := phrases.get(tuple(words[start:end])):
                yield Said(*found, start, end)
                start = end
                break
        else:
            start += 1


def is_one_group(words: Sequence[str]) -> bool:
    """Whether words may all be attributes of one noun, as nothing among them begins a clause or another noun."""
    return not _BREAKS.intersection(words)


@cache
def _phrases() -> tuple[dict[tuple[str, ...], tuple[str, str]], int]:
    """Words -> what they say, and the length of the longest. What is worn in a role is no hat: its kind is "role"."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for kind, garments in (("shirt", v.SHIRTS), ("hat", v.HATS)):
        for colour, shades in v.COLOURS.items():
            for shade in shades:
                found |= {tuple(words_of(f"{shade} {garment}")): (kind, colour) for garment in garments}
                found.setdefault(tuple(words_of(shade)), ("colour", colour))  # "snow white" is no place
    for answer, (adjectives, clauses) in v.EXPRESSIONS.items():
        found |= {(word,): ("expression", answer) for word in adjectives}
        for clause in clauses:
            found[tuple(words_of(clause))] = ("clause", answer)
            found.setdefault(_bare(clause), ("clause", answer))
    tables = [("style", v.STYLES), ("style", v.MANNERS), ("place", v.PLACES), ("role", v.ATTIRE)]
    found |= {
        _bare(name): (kind, answer) for kind, table in tables for answer, names in table.items() for name in names
    }
    found.pop((), None)  # of the place without words
    return found, max(map(len, found))


def _bare(phrase: str) -> tuple[str, ...]:
    """The words of a phrase without the small ones at its beginning."""
    words = words_of(phrase)
    while words and words[0] in _SMALL:
        del words[0]
    return tuple(words)
