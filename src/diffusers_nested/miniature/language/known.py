"""Which words of a prompt the miniature world knows."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from . import vocabulary

logger = logging.getLogger(__name__)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_OTHERS = "an these some of to haired furred eyed eyes fur"  # of the grammar, beside what the vocabulary lists
_ENDINGS = ("'s", "’s", "es", "s")


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, in lower case and without punctuation; what a hyphen joins is one word."""
    return _WORD.findall(prompt.lower())


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that no caption of the miniature ever has, each once, in the order of the prompt.

    Plurals and genitives of known words are known, and so are known words that a hyphen joins.
    """
    return list(dict.fromkeys(word for word in words_of(prompt) if not _is_known(word)))


def log_unknown_words(prompts: Sequence[str]) -> None:
    """Warn, in one line, of all words of the prompts that the miniature does not know."""
    unknown = list(dict.fromkeys(word for prompt in prompts for word in unknown_words(prompt)))
    if unknown:
        logger.warning(
            "The miniature world never learnt %s: it draws all the same, but they say little to it. Those that it "
            "knows are in diffusers_nested.miniature.language.vocabulary.",
            ", ".join(f'"{word}"' for word in unknown),
        )


def _is_known(word: str) -> bool:
    forms = {word, f"{word}s", *(word.removesuffix(ending) for ending in _ENDINGS)}
    parts = re.split("[-'’]", word)
    return bool(forms & _known()) or (len(parts) > 1 and all(map(_is_known, parts)))


@cache
def _known() -> frozenset[str]:
    """All words of the vocabulary."""
    listed = [value for name, value in vars(vocabulary).items() if name.strip("_").isupper()]
    return frozenset(word for text in (_OTHERS, *_texts(listed)) for word in words_of(text))


def _texts(value: Any) -> Iterator[str]:
    """The strings in nested tables; of a mapping the values, or the keys of functions."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([key if callable(one) else one for key, one in value.items()])
    elif isinstance(value, Sequence):
        for one in value:
            yield from _texts(one)
