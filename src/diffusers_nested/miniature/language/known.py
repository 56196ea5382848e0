"""Which words of a prompt the bundled pipeline knows."""

import logging
import re
from collections.abc import Sequence
from functools import cache

from .. import path

logger = logging.getLogger(__name__)
WORDS_FILE = "words.txt"  # in the folder of a pipeline: the words of the captions that it learnt from, one a line
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, in lower case and without punctuation; what a hyphen joins is one word."""
    return _WORD.findall(prompt.lower())


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that no caption had from which the bundled pipeline learnt.

    Each is given once, in the order of the prompt. Known words that a hyphen joins are known.
    """
    return list(dict.fromkeys(word for word in words_of(prompt) if not _is_known(word)))


def log_unknown_words(prompts: Sequence[str]) -> None:
    """Warn, in one line, of all words of the prompts that the bundled pipeline does not know."""
    unknown = list(dict.fromkeys(word for prompt in prompts for word in unknown_words(prompt)))
    if unknown:
        logger.warning(
            "The miniature world never learnt %s: it draws all the same, but they say little to it. The words that it "
            "knows are in %s.",
            ", ".join(f'"{word}"' for word in unknown),
            path() / WORDS_FILE,
        )


def _is_known(word: str) -> bool:
    return word in _known() or ("-" in word and all(part in _known() for part in word.split("-")))


@cache
def _known() -> frozenset[str]:
    return frozenset((path() / WORDS_FILE).read_text(encoding="utf-8").split())
