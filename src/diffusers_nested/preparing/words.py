"""The subject's word in captions: a noun for the subject is replaced by it (arXiv 2501.01407, section 5)."""

import re
from collections.abc import Collection
from pathlib import Path

from ..data import read_lines
from ..errors import NestedAdapterError
from .reject import Reason, Reject

_LATEST = 40  # words before the noun: text encoders read 75 tokens, and some words are several
_TABLES = Path(__file__).parent / "nouns"


def read_nouns(file: Path | None, kind: str) -> list[str]:
    """Nouns that mean a subject, one a line; by default those that come with the package for the kind of subject.

    Raises:
        NestedAdapterError: The file is missing, empty or not in UTF-8.
    """
    if file is None:
        table = _TABLES / f"{kind}.txt"
        return [text for _, text in read_lines(table)] if table.is_file() else []
    if not file.is_file():
        raise NestedAdapterError(f"--nouns {file} does not exist. Name a text file with a noun on each line.")
    nouns = [text for _, text in read_lines(file)]
    if not nouns:
        raise NestedAdapterError(f"--nouns {file} is empty. Write a noun on each line, such as girl, man and woman.")
    return nouns


class SubjectWord:
    """Puts the subject's word in the place of the noun in a caption.

    Args:
        word: The adapter's ``subject_token``.
        nouns: In the singular. Only whole words count, in upper or lower case; plurals do not.
    """

    def __init__(self, word: str, nouns: Collection[str]) -> None:
        self._word = word
        longest_first = sorted({word, *nouns}, key=lambda noun: (-len(noun), noun))
        choice = "|".join(r"\s+".join(map(re.escape, noun.split())) for noun in longest_first)
        self._pattern = re.compile(rf"(?:\b(an?)(\s+))?(?<![\w'’-])({choice})(?![\w-])", re.IGNORECASE)
        self._itself = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)

    def put_into(self, caption: str) -> str:
        """The caption with the word, and "a" or "an" before it as it needs.

        Raises:
            Reject: There is no noun; or more than one, so that the subject is unknown; or it comes so late that a text
                encoder may not read it.
        """
        matches = list(self._pattern.finditer(caption))
        found = [match[3] for match in matches]
        if not found:
            raise Reject(Reason.NO_NOUN, f"in {caption!r}")
        if len(found) > 1:
            raise Reject(Reason.SEVERAL_NOUNS, f"{', '.join(found)} in {caption!r}")
        before = len(re.findall(r"\w+|[^\w\s]", caption[: matches[0].start(3)]))
        if before > _LATEST:
            raise Reject(Reason.LATE_NOUN, f"{found[0]} after {before} words, expected at most {_LATEST}")
        text = self._pattern.sub(self._replaced, caption)
        if len(self._itself.findall(text)) > 1:  # also as in "a person-like robot": the tokenizer splits at hyphens
            raise Reject(Reason.SEVERAL_NOUNS, f"{self._word} in {text!r}")
        return text

    def means(self, label: str) -> bool:
        """Whether a class of a model, such as "dog, domestic dog", is the subject."""
        return self._pattern.search(label.replace("_", " ")) is not None

    def _replaced(self, match: re.Match[str]) -> str:
        word = _as_in(match[3], self._word)
        if match[1] is None:
            return word
        article = "an" if self._word[:1].lower() in "aeiou" else "a"
        return f"{_as_in(match[1], article)}{match[2]}{word}"


def _as_in(model: str, word: str) -> str:
    """The word with a capital at its beginning if the other one has it."""
    return word[:1].upper() + word[1:] if model[0].isupper() else word
