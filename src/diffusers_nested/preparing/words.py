"""The subject's word in captions: a noun for the subject is replaced by it (arXiv 2501.01407, section 5)."""

import json
import re
from collections.abc import Collection
from pathlib import Path

from ..errors import NestedAdapterError
from ..files.json_files import parse_json

_PERSON = Path(__file__).with_name("nouns.json")


def read_nouns(file: Path | None) -> list[str]:
    """Nouns that mean a subject, from a JSON list; by default those for a person that come with the package.

    Raises:
        NestedAdapterError: The file is missing, or not a list of words.
    """
    file = _PERSON if file is None else file
    if not file.is_file():
        raise NestedAdapterError(f"--nouns {file} does not exist. Name a JSON file with a list of nouns.")
    nouns = parse_json(file.read_bytes(), str(file))
    if not isinstance(nouns, list) or not nouns or not all(isinstance(one, str) and one.strip() for one in nouns):
        raise NestedAdapterError(f'--nouns {file} must hold a JSON list of words such as ["man", "woman"].')
    return [one.strip() for one in nouns]


class SubjectWord:
    """Puts the subject's word in the place of the noun in a caption.

    Args:
        word: The adapter's ``subject_token``.
        nouns: In the singular. Only whole words count, in upper or lower case; plurals do not.
    """

    def __init__(self, word: str, nouns: Collection[str]) -> None:
        self._word = word
        longest_first = sorted({word, *nouns}, key=lambda noun: (-len(noun), noun))
        choice = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(rf"(?:\b(an?)(\s+))?(?<![\w'’-])({choice})(?![\w-])", re.IGNORECASE)

    def put_into(self, caption: str) -> str:
        """The caption with the word, and "a" or "an" before it as it needs.

        Raises:
            ValueError: There is no noun, or more than one: which of them is the subject is then unknown.
        """
        found = [match[3] for match in self._pattern.finditer(caption)]
        if not found:
            raise ValueError("no noun for the subject in the caption")
        if len(found) > 1:
            raise ValueError(f"several nouns for the subject in the caption: {', '.join(found)}")
        return self._pattern.sub(self._replaced, caption)

    def _replaced(self, match: re.Match[str]) -> str:
        noun = match[3]
        word = self._word[:1].upper() + self._word[1:] if noun[0].isupper() else self._word
        if match[1] is None:
            return word
        article = "an" if self._word[:1].lower() in "aeiou" else "a"
        return f"{article.capitalize() if match[1][0].isupper() else article}{match[2]}{word}"


def as_json(nouns: Collection[str]) -> str:
    """The nouns as text that is the same for the same nouns."""
    return json.dumps(sorted(nouns))
