"""Resolves the subjects of a call: values checked, words and adapters known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Remedy, SubjectError
from .forms import Named, subjects_of_call
from .subject import ResolvedSubject, Subject
from .values import (
    check_embeds,
    check_image_weights,
    check_images,
    check_mask,
    check_scale,
    check_steps,
    check_token_indices,
    check_word,
)


def resolve_subjects(
    image: Any,
    image_embeds: Any,
    token: str | None,
    *,
    num_prompts: int,
    adapter_tokens: Mapping[str, str],
) -> list[list[ResolvedSubject]]:
    """Resolve the subjects of each prompt, from any form that a call accepts.

    Args:
        image: The call's `nested_adapter_image`: an image, a list of images of one subject, a dict of
            word -> image(s), a `Subject` or a list of them; or a list of dicts or of lists of Subjects, one per
            prompt.
        image_embeds: The call's `nested_adapter_image_embeds`: the same forms, with tensors of shape
            (images, tokens, token_dim) in place of images.
        token: The call's `nested_adapter_token`: the word of a single subject, if the form does not name it.
        num_prompts: Number of prompts of the call.
        adapter_tokens: The `subject_token` of each loaded adapter, by adapter name.

    Returns:
        One list per prompt. Subjects that serve all prompts are resolved once and shared.

    Raises:
        SubjectError: The form or one of its values cannot be used.
    """
    if not adapter_tokens:
        raise SubjectError("Subjects were given, but no adapter is loaded. Call pipe.load_nested_adapter(...) first.")
    lists = subjects_of_call(image, image_embeds, token, num_prompts)
    resolved = [_resolve_all(subjects, adapter_tokens) for subjects in lists]
    return resolved if len(resolved) == num_prompts else [list(resolved[0]) for _ in range(num_prompts)]


def _resolve_all(subjects: list[Named], adapter_tokens: Mapping[str, str]) -> list[ResolvedSubject]:
    resolved: list[ResolvedSubject] = []
    for where, given in subjects:
        subject = _resolve(given, where, adapter_tokens)
        for other in resolved:
            _check_apart(subject, other, where)
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
        mask=check_mask(subject.mask, where),
        steps=check_steps(subject.start, subject.end, where),
    )


def _adapter_name(name: Any, word: str | None, where: str, adapter_tokens: Mapping[str, str]) -> str:
    loaded = ", ".join(f"{adapter!r} (word {token!r})" for adapter, token in adapter_tokens.items())
    if name is not None:
        if not isinstance(name, str) or name not in adapter_tokens:
            raise SubjectError(f"{where} names the adapter {name!r}, expected one of the loaded: {loaded}.")
        return name
    fitting = list(adapter_tokens) if word is None else _adapters_for(word, adapter_tokens)
    if len(fitting) == 1:
        return fitting[0]
    reason = "has no word" if word is None else f"has the word {word!r}"
    raise SubjectError(
        f"{where} {reason}, which does not single out an adapter. Loaded: {loaded}. {Remedy.ADAPTER_OF_SUBJECT}"
    )


def _adapters_for(word: str, adapter_tokens: Mapping[str, str]) -> list[str]:
    if word in adapter_tokens:
        return [word]  # names are unique and chosen by the user, so they take precedence over words
    same = [name for name, token in adapter_tokens.items() if _fold(word) in (_fold(name), _fold(token))]
    return same or list(adapter_tokens)


def _check_apart(subject: ResolvedSubject, other: ResolvedSubject, where: str) -> None:
    """Two subjects may share a word only if both have token_indices, or both have masks."""
    if subject.mask is not None and other.mask is not None:
        return
    if subject.token_indices is not None and other.token_indices is not None:
        shared = set(subject.token_indices) & set(other.token_indices)
        if shared:
            raise SubjectError(
                f"{where} has token_indices {subject.token_indices}, but {sorted(shared)} belong to another "
                "subject of the same prompt. Give each subject its own positions."
            )
    elif _fold(subject.token) == _fold(other.token):
        raise SubjectError(
            f"{where} has the word {subject.token!r}, as does another subject of the same prompt. Give each subject "
            "its own word, or give both a mask or token_indices. For several photos of one subject, pass a list."
        )


def _fold(word: str) -> str:
    """A word as the tokenizer sees it, for comparing: case and spacing do not matter."""
    return " ".join(word.lower().split())
