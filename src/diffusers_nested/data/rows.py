"""Rows of a training set's list: what one example must hold."""

from typing import Any

from ..errors import NestedAdapterError
from ..files.json_files import shown
from ..files.jsonl import Row

NO_SUBJECT = (
    "has no subject. The base is frozen, and without a subject it acts alone, so such an example would teach the "
    "adapter nothing: give the photo of a subject, or leave the example out."
)
_COLUMNS = ("input_file_name", "file_name", "text")
_KEYS = ("word", "file_name")
_FORM = '{"word": "person", "file_name": "crops/1.png"}'


def check_row(row: Row, where: str) -> None:
    """Raise unless a row is an example: target and caption, and one photo, or ``subjects`` with their words.

    Args:
        row: The row.
        where: File and line, for messages.

    Raises:
        NestedAdapterError: It is not; the message says what is missing.
    """
    subjects = row.get("subjects")
    missing = [name for name in _COLUMNS[1 if subjects else 0 :] if not row.get(name) or not isinstance(row[name], str)]
    if missing == ["input_file_name"] and not row.get("input_file_name"):
        keys = ", ".join(shown(name)[1:-1] for name in row)
        raise NestedAdapterError(
            f"{where}, {NO_SUBJECT} The line has {keys}; a photo stands under input_file_name, several under subjects."
        )
    if missing:
        raise NestedAdapterError(f"{where} lacks {', '.join(missing)} as text, got {row!r:.80}.")
    if subjects:
        _check_subjects(row, subjects, where)


def _check_subjects(row: Row, subjects: Any, where: str) -> None:
    if "input_file_name" in row:
        raise NestedAdapterError(f"{where} has both input_file_name and subjects. Put all photos into subjects.")
    if not isinstance(subjects, list):
        raise NestedAdapterError(f"{where}: subjects is {shown(subjects)}, expected a list such as [{_FORM}].")
    words = set()
    for one in subjects:
        if not isinstance(one, dict) or one.keys() != set(_KEYS) or not all(_is_text(one[key]) for key in _KEYS):
            raise NestedAdapterError(f"{where}: a subject is {shown(one)}, expected one such as {_FORM}.")
        word = " ".join(one["word"].casefold().split())
        if word in words:
            raise NestedAdapterError(
                f"{where} has two subjects with the word {one['word']!r}. Each needs a word of its own in the caption."
            )
        words.add(word)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
