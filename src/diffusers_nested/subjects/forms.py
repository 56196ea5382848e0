"""Every form in which a call gives its subjects, brought to one: a list of resolved subjects for each prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import SubjectError
from .subject import ResolvedSubject, Subject
from .values import (
    check_embeds,
    check_image_weights,
    check_images,
    check_scale,
    check_token_indices,
    check_word,
)


class _Given(NamedTuple):
    """What a keyword of the call holds, or a part of it."""

    field: str  # "image" or "image_embeds": the field of Subject that plain values stand for
    where: str  # for messages, e.g. "nested_adapter_image['pet']"
    value: Any


def resolve_subjects(
    image: Any,
    image_embeds: Any,
    token: str | None,
    *,
    num_prompts: int,
    adapter_tokens: Mapping[str, str],
) -> list[list[ResolvedSubject]]:
    """The subjects of each prompt, from any form that a call accepts.

    Args:
        image: `nested_adapter_image`: an image, a list of images of one subject, a dict of word -> image(s), a
            `Subject` or a list of them; or, one per prompt, a list of dicts or of lists of Subjects.
        image_embeds: `nested_adapter_image_embeds`: the same with tensors of shape (images, tokens, token_dim).
        token: `nested_adapter_token`: the word of a single subject, where the form does not name it.
        num_prompts: Number of prompts of the call.
        adapter_tokens: The `subject_token` of each loaded adapter, by adapter name.

    Returns:
        One list per prompt. A form that serves all prompts is resolved once, and its subjects are shared.

    Raises:
        SubjectError: The form, or a value in it, cannot be used.
    """
    if not adapter_tokens:
        raise SubjectError(
            "Subjects were given, but no adapter is loaded. Call pipe.load_nested_adapter(...) first."
        )
    given = _given(image, image_embeds)
    if token is not None:
        _check_single(given, token)
    if _is_per_prompt(given.value):
        parts = _split_per_prompt(given, num_prompts)
        return [_resolve_all(_subjects(part, None), adapter_tokens) for part in parts]
    shared = _resolve_all(_subjects(given, token), adapter_tokens)
    return [list(shared) for _ in range(num_prompts)]


def _given(image: Any, image_embeds: Any) -> _Given:
    if image is not None and image_embeds is not None:
        raise SubjectError(
            "nested_adapter_image and nested_adapter_image_embeds were given together, expected one of them. To use "
            "images for one subject and embeddings for another, give a list of Subjects."
        )
    if image is not None:
        return _Given("image", "nested_adapter_image", image)
    if image_embeds is not None:
        return _Given("image_embeds", "nested_adapter_image_embeds", image_embeds)
    raise SubjectError("No subject was given: pass nested_adapter_image or nested_adapter_image_embeds.")


def _check_single(given: _Given, token: Any) -> None:
    check_word(token, "nested_adapter_token")
    value = given.value
    if isinstance(value, Mapping | Subject) or _holds(value, Mapping, Subject, list, tuple):
        raise SubjectError(
            f"nested_adapter_token={token!r} was given together with {given.where} of a form that names its words "
            "itself (dict or Subjects). Leave nested_adapter_token out."
        )


def _is_per_prompt(value: Any) -> bool:
    return _holds(value, Mapping, list, tuple)


def _holds(value: Any, *types: type) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, types) for item in value)


def _split_per_prompt(given: _Given, num_prompts: int) -> list[_Given]:
    for item in given.value:
        is_subjects = isinstance(item, list | tuple) and all(isinstance(each, Subject) for each in item)
        if not (isinstance(item, Mapping) or is_subjects):
            raise SubjectError(
                f"{given.where} is a list that holds a {_kind(item)}. A list with a dict or a list in it is read as "
                "one entry per prompt, each a dict of word -> image(s) or a list of Subjects. Several photos of one "
                "subject are a plain list of images."
            )
    if len(given.value) != num_prompts:
        raise SubjectError(
            f"{given.where} has {len(given.value)} entries for {num_prompts} prompts: expected one per prompt. Give "
            "a single dict or list of Subjects to use it for every prompt."
        )
    return [_Given(given.field, f"{given.where}[{i}]", item) for i, item in enumerate(given.value)]


def _subjects(given: _Given, token: str | None) -> list[_Given]:
    """The subjects of one prompt, each still to be checked."""
    field, where, value = given
    if isinstance(value, Mapping | list | tuple) and not value:
        raise SubjectError(
            f"{where} is an empty {_kind(value)}, expected one subject or more. Leave it out for none."
        )
    if isinstance(value, Mapping):
        words = {word: f"{where}[{word!r}]" for word in value}
        return [
            _Given(field, words[word], _plain(field, item, check_word(word, words[word])))
            for word, item in value.items()
        ]
    if _holds(value, Subject):
        return [_Given(field, f"{where}[{i}]", _only_subject(item, where)) for i, item in enumerate(value)]
    return [_Given(field, where, value if isinstance(value, Subject) else _plain(field, value, token))]


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


def _resolve_all(subjects: list[_Given], adapter_tokens: Mapping[str, str]) -> list[ResolvedSubject]:
    resolved: list[ResolvedSubject] = []
    for given in subjects:
        subject = _resolve(given.value, given.where, adapter_tokens)
        for other in resolved:
            _check_apart(subject, other, given.where)
        resolved.append(subject)
    return resolved


def _resolve(subject: Subject, where: str, adapter_tokens: Mapping[str, str]) -> ResolvedSubject:
    if (subject.image is None) == (subject.image_embeds is None):
        raise SubjectError(
            f"{where} has {'neither image nor' if subject.image is None else 'both image and'} image_embeds, "
            "expected exactly one of them."
        )
    word = None if subject.token is None else check_word(subject.token, where)
    adapter_name = _adapter_name(subject.adapter_name, word, where, adapter_tokens)
    images = () if subject.image is None else check_images(subject.image, where)
    embeds = None if subject.image_embeds is None else check_embeds(subject.image_embeds, where)
    num_images = len(images) if embeds is None else embeds.shape[0]
    return ResolvedSubject(
        adapter_name=adapter_name,
        token=adapter_tokens[adapter_name] if word is None else word,
        images=images,
        embeds=embeds,
        scale=check_scale(subject.scale, where),
        image_weights=check_image_weights(subject.image_weights, num_images, where),
        token_indices=check_token_indices(subject.token_indices, where),
    )


def _adapter_name(name: Any, word: str | None, where: str, adapter_tokens: Mapping[str, str]) -> str:
    loaded = ", ".join(f"{adapter!r} (word {token!r})" for adapter, token in adapter_tokens.items())
    if name is not None:
        if not isinstance(name, str) or name not in adapter_tokens:
            raise SubjectError(f"{where} names the adapter {name!r}, expected a loaded one: {loaded}.")
        return name
    fitting = list(adapter_tokens) if word is None else _adapters_for(word, adapter_tokens)
    if len(fitting) == 1:
        return fitting[0]
    reason = "has no word" if word is None else f"has the word {word!r}"
    raise SubjectError(
        f"{where} {reason}, from which no single adapter follows; loaded are {loaded}. Give a dict of word -> "
        "image(s) with words of the adapters, or Subject(adapter_name=...) to use any other word."
    )


def _adapters_for(word: str, adapter_tokens: Mapping[str, str]) -> list[str]:
    if word in adapter_tokens:
        return [word]  # an adapter's name is unique and chosen by the user, so it goes before the words
    same = [name for name, token in adapter_tokens.items() if _fold(word) in (_fold(name), _fold(token))]
    return same or list(adapter_tokens)


def _check_apart(subject: ResolvedSubject, other: ResolvedSubject, where: str) -> None:
    """Two subjects of a prompt may share a word only if both say at which positions they stand."""
    if subject.token_indices is not None and other.token_indices is not None:
        shared = set(subject.token_indices) & set(other.token_indices)
        if shared:
            raise SubjectError(
                f"{where} has token_indices {subject.token_indices}, of which {sorted(shared)} belong to another "
                "subject of the same prompt. Give each subject positions of its own."
            )
    elif _fold(subject.token) == _fold(other.token):
        raise SubjectError(
            f"{where} has the word {subject.token!r}, which another subject of the same prompt has. Give each "
            "subject a word of its own, or token_indices to both. Several photos of one subject are a list."
        )


def _fold(word: str) -> str:
    """The form in which words are compared, as the tokenizer sees them: any case, any spacing."""
    return " ".join(word.lower().split())
