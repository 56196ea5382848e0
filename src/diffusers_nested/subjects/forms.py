"""The forms in which a call gives its subjects, each brought to lists of `Subject`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import SubjectError
from .subject import Subject
from .values import check_word


class Given(NamedTuple):
    """What a keyword of the call holds, or a part of it."""

    field: str  # "image" or "image_embeds": the field of Subject that plain values stand for
    where: str  # for messages, e.g. "nested_adapter_image['pet']"
    value: Any


def subjects_of_call(image: Any, image_embeds: Any, token: str | None, num_prompts: int) -> list[list[Given]]:
    """The subjects of a call, values still unchecked: one list that serves all prompts, or one per prompt."""
    given = _given(image, image_embeds)
    if token is not None:
        _check_single(given, token)
    if _is_per_prompt(given.value):
        return [_subjects(part, None) for part in _split_per_prompt(given, num_prompts)]
    return [_subjects(given, token)]


def _given(image: Any, image_embeds: Any) -> Given:
    if image is not None and image_embeds is not None:
        raise SubjectError(
            "nested_adapter_image and nested_adapter_image_embeds were given together, expected one of "
            "them. To use images for one subject and embeddings for another, give a list of Subjects."
        )
    if image is not None:
        return Given("image", "nested_adapter_image", image)
    if image_embeds is not None:
        return Given("image_embeds", "nested_adapter_image_embeds", image_embeds)
    raise SubjectError("No subject was given: pass nested_adapter_image or nested_adapter_image_embeds.")


def _check_single(given: Given, token: Any) -> None:
    check_word(token, "nested_adapter_token")
    value = given.value
    if isinstance(value, Mapping | Subject) or _holds(value, Mapping, Subject, list, tuple):
        raise SubjectError(
            f"nested_adapter_token={token!r} was given together with {given.where} of a form that names its "
            "words itself (dict or Subjects). Leave nested_adapter_token out."
        )


def _is_per_prompt(value: Any) -> bool:
    return _holds(value, Mapping, list, tuple)


def _holds(value: Any, *types: type) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, types) for item in value)


def _split_per_prompt(given: Given, num_prompts: int) -> list[Given]:
    for item in given.value:
        is_subjects = isinstance(item, list | tuple) and all(isinstance(each, Subject) for each in item)
        if not (isinstance(item, Mapping) or is_subjects):
            raise SubjectError(
                f"{given.where} is read as one entry per prompt, since it holds a dict or a list, but an "
                f"entry is a {_kind(item)}: expected a dict of word -> image(s) or a list of Subjects. "
                "Several photos of one subject are a plain list of images."
            )
    if len(given.value) != num_prompts:
        raise SubjectError(
            f"{given.where} has {len(given.value)} entries for {num_prompts} prompts: expected one per "
            "prompt. Give a single dict or list of Subjects to use it for every prompt."
        )
    return [Given(given.field, f"{given.where}[{i}]", item) for i, item in enumerate(given.value)]


def _subjects(given: Given, token: str | None) -> list[Given]:
    """The subjects of one prompt, each still to be checked."""
    field, where, value = given
    if isinstance(value, Mapping | list | tuple) and not value:
        raise SubjectError(f"{where} is an empty {_kind(value)}, expected one subject or more. Leave it out.")
    if isinstance(value, Subject):
        return [given]
    if isinstance(value, Mapping):
        return [_named(field, f"{where}[{word!r}]", word, item) for word, item in value.items()]
    if _holds(value, Subject):
        return [Given(field, f"{where}[{i}]", _only_subject(item, where)) for i, item in enumerate(value)]
    return [Given(field, where, _plain(field, value, token))]


def _named(field: str, where: str, word: Any, value: Any) -> Given:
    return Given(field, where, _plain(field, value, check_word(word, where)))


def _plain(field: str, value: Any, token: str | None) -> Subject:
    return Subject(image=value, token=token) if field == "image" else Subject(image_embeds=value, token=token)


def _only_subject(item: Any, where: str) -> Subject:
    if not isinstance(item, Subject):
        raise SubjectError(
            f"{where} is a list with Subjects and a {_kind(item)}, expected Subjects only. Wrap it as "
            "Subject(image=...)."
        )
    return item


def _kind(value: Any) -> str:
    return type(value).__name__
