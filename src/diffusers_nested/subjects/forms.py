"""The forms in which a call can give its subjects, all turned into lists of `Subject`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SubjectError
from .subject import Subject
from .values import check_word

Named = tuple[str, Subject]  # what error messages call it, such as "nested_adapter_image['pet']", and the subject


def subjects_of_call(image: Any, image_embeds: Any, token: Any, num_prompts: int) -> list[list[Named]]:
    """The subjects of a call, not checked yet: one list for all prompts, or one list per prompt."""
    if image is not None and image_embeds is not None:
        raise SubjectError(
            "Both nested_adapter_image and nested_adapter_image_embeds were given, expected one of them. "
            "To use images for one subject and embeddings for another, pass a list of Subjects."
        )
    if image is None and image_embeds is None:
        raise SubjectError("No subject was given. Pass nested_adapter_image or nested_adapter_image_embeds.")
    # the field of Subject that a plain value fills
    field: str = "image" if image is not None else "image_embeds"
    given: Any = image if image is not None else image_embeds
    where = f"nested_adapter_{field}"
    if token is not None:
        _check_single(given, token, where)
    if not (_holds(given, Mapping, list, tuple) or _holds_nothing(given)):
        return [_of_prompt(field, given, where, token)]
    _check_per_prompt(given, num_prompts, where)
    return [_of_prompt(field, part, f"{where}[{i}]") if part else [] for i, part in enumerate(given)]


def _check_single(given: Any, token: Any, where: str) -> None:
    check_word(token, "nested_adapter_token")
    if isinstance(given, Mapping | Subject) or _holds(given, Mapping, Subject, list, tuple):
        raise SubjectError(
            f"nested_adapter_token={token!r} was given, but {where} already names its words (a dict or "
            "Subjects). Leave nested_adapter_token out."
        )


def _check_per_prompt(given: Any, num_prompts: int, where: str) -> None:
    for item in given:
        is_subjects = isinstance(item, list | tuple) and all(isinstance(each, Subject) for each in item)
        if not (item is None or isinstance(item, Mapping) or is_subjects):
            raise SubjectError(
                f"{where} holds a dict or a list, so it must have one entry per prompt, but an entry is a "
                f"{_kind(item)}: expected a dict of word -> image(s), a list of Subjects, or None for a prompt without "
                "subjects. For several photos of one subject, pass a plain list of images."
            )
    if len(given) != num_prompts:
        raise SubjectError(
            f"{where} has {len(given)} entries for {num_prompts} prompts: expected one per prompt, None for a prompt "
            "without subjects. Pass a single dict or list of Subjects to use it for every prompt."
        )
    if not any(given):
        raise SubjectError(f"No entry of {where} has a subject. Leave it out.")


def _of_prompt(field: str, given: Any, where: str, token: str | None = None) -> list[Named]:
    """The subjects of one prompt; ``token`` is the word of a single subject."""
    if isinstance(given, Mapping | list | tuple) and not given:
        raise SubjectError(f"{where} is an empty {_kind(given)}, expected one subject or more. Leave it out.")
    if isinstance(given, Subject):
        return [(where, given)]
    if isinstance(given, Mapping):
        return [_of_word(field, f"{where}[{word!r}]", word, value) for word, value in given.items()]
    if _holds(given, Subject):
        return [(f"{where}[{i}]", _only_subject(item, where)) for i, item in enumerate(given)]
    return [(where, _filled(field, given, token))]


def _of_word(field: str, where: str, word: Any, value: Any) -> Named:
    return where, _filled(field, value, check_word(word, where))


def _filled(field: str, value: Any, token: str | None) -> Subject:
    return Subject(image=value, token=token) if field == "image" else Subject(image_embeds=value, token=token)


def _only_subject(item: Any, where: str) -> Subject:
    if not isinstance(item, Subject):
        raise SubjectError(
            f"{where} is a list with Subjects and a {_kind(item)}, expected Subjects only. Wrap it as "
            "Subject(image=...)."
        )
    return item


def _holds(value: Any, *types: type) -> bool:
    return isinstance(value, list | tuple) and any([isinstance(item, types) for item in value])


def _holds_nothing(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all([item is None for item in value])


def _kind(value: Any) -> str:
    return type(value).__name__
