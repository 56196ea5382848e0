"""Subjects from the command line, ``--image WORD=FILE``, for the pipelines' calls."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SubjectError

if TYPE_CHECKING:
    from PIL import Image


def read_images(entries: Sequence[str], word: str | None = None) -> Any:
    """Read ``["person=a.png", "person=b.png", "pet=c.png"]`` into word -> images, as the pipelines take them.

    Args:
        entries: Files, each with its word or without.
        word: The word of those without.

    Returns:
        A dict; a list if none has a word.

    Raises:
        SubjectError: A file cannot be read as a picture, only some have a word, or the word is nobody's.
    """
    pairs = [_split(entry) for entry in entries]
    if word is not None and (not word.strip() or all(own for own, _ in pairs)):
        raise SubjectError(f"--word {word!r} has no photo. Add one without a word: --image FILE.")
    named: dict[str, tuple[str, list[Image.Image]]] = {}  # by the form in which words are compared
    for own, file in pairs:
        given = own or word or ""
        named.setdefault(_fold(given), (given, []))[1].append(_open(file))
    words = dict(named.values())
    if "" in words and len(words) > 1:
        raise SubjectError(
            f"Of the photos {', '.join(entries)}, only some have a word. Write --image WORD=FILE for "
            "each, or pass --word for the others."
        )
    return words.get("", words)


def with_word(images: Any, prompt: str, words: Sequence[str]) -> Any:
    """Give photos without a word the one adapter's word that the prompt contains.

    Args:
        images: Of ``read_images``.
        prompt: The prompt.
        words: Of the adapters.

    Raises:
        SubjectError: It is not clear which word, or which adapter, is meant.
    """
    if len(words) == 1 or not images:
        return images
    known = ", ".join(words)
    if isinstance(images, Mapping):
        _check_known(images, words)
        return images
    held = [word for word in words if re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE)]
    if not held:
        raise SubjectError(
            f"The prompt {prompt!r} has no word of the adapters ({known}). Add one, or name the word that the "
            "photo stands for and a single adapter: --word WORD --adapter REPOSITORY_OR_FOLDER."
        )
    if len(held) > 1:
        raise SubjectError(
            f"The prompt {prompt!r} has several words of the adapters ({', '.join(held)}). Say which of them the "
            "photo stands for: --image WORD=FILE."
        )
    return {held[0]: images}


def _check_known(images: Mapping[str, Any], words: Sequence[str]) -> None:
    for word in images:
        if _fold(word) not in map(_fold, words):
            raise SubjectError(
                f"{word!r} is not a word of the adapters ({', '.join(words)}), so it is unclear which one is meant. "
                "Name a single adapter; any word can stand for its subject: --adapter REPOSITORY_OR_FOLDER."
            )


def _split(entry: str) -> tuple[str, str]:
    """The word, if any, and the file, whose name may contain the sign."""
    if "=" not in entry or Path(entry).exists():
        return "", entry
    word, _, file = entry.partition("=")
    if not word.strip() or not file:
        raise SubjectError(f"--image {entry} lacks its {'file' if word.strip() else 'word'}. Write WORD=FILE.")
    return word.strip(), file


def _open(file: str) -> "Image.Image":
    from ..images import open_photo, to_pil
    from ..miniature import example, examples

    if not Path(file).exists() and file in examples():
        return example(file)
    if not Path(file).exists():
        raise SubjectError(f"--image: {file!r} is neither a file nor an example; examples are {', '.join(examples())}.")
    return to_pil(open_photo(file))


def _fold(word: str) -> str:
    return " ".join(word.lower().split())
