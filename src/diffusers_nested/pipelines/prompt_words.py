"""Finds the subjects' words in a call's prompts, one thread at a time."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from threading import RLock
from typing import Any

from torch import Tensor

from ..backbones import Backbone
from ..errors import PromptTokenError
from ..prompts import pair_prompts, word_positions
from ..subjects import ResolvedSubject

PROMPTS = ("prompt", "prompt_2", "prompt_embeds")
# Tokenizers keep their padding and truncation as state, which threads share: so one prompt at a time.
ENCODING = RLock()


def one_at_a_time(encode: Callable[..., Any]) -> Callable[..., Any]:
    """Make a pipeline's ``encode_prompt`` wait for those of other threads."""

    @wraps(encode)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        with ENCODING:
            return encode(*args, **kwargs)

    return encode_prompt


def named_arguments(call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, including those taken as ``**kwargs``."""
    signature = inspect.signature(call)
    given = dict(signature.bind_partial(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    return given


def count_prompts(prompts: Mapping[str, Any]) -> int:
    """The number of prompts of a call.

    Raises:
        PromptTokenError: There is none, or it is of the wrong type.
    """
    prompt, embeds = prompts["prompt"], prompts["prompt_embeds"]
    if prompt is None and embeds is None:
        raise PromptTokenError(
            "A call with a subject needs `prompt`, or `prompt_embeds` with Subject(token_indices=…)."
        )
    if prompt is None:
        if not isinstance(embeds, Tensor) or embeds.ndim != 3:
            got = f"a tensor of shape {tuple(embeds.shape)}" if isinstance(embeds, Tensor) else type(embeds).__name__
            raise PromptTokenError(
                f"`prompt_embeds` is {got}, expected a tensor of shape (prompts, tokens, width). Pass what "
                "encode_prompt returns."
            )
        return len(embeds)
    if isinstance(prompt, str):
        return 1
    if not isinstance(prompt, list | tuple) or not prompt:
        raise PromptTokenError(f"`prompt` is {prompt!r}, expected a string or a list of strings. Pass at least one.")
    return len(prompt)


def find_positions(
    pipeline: Any, backbone: Backbone, resolved: Sequence[Sequence[ResolvedSubject]], prompts: Mapping[str, Any]
) -> list[list[tuple[int, ...]]]:
    """The token positions of every subject in every prompt.

    Raises:
        PromptTokenError: A word is missing or cut off, or two subjects without masks share a position.
    """
    if prompts["prompt"] is None:
        length = prompts["prompt_embeds"].shape[1]
        found = [[_given_positions(subject, length) for subject in row] for row in resolved]
    else:
        tokenizers = backbone.tokenizers_of(pipeline)
        if tokenizers[-1] is None:
            raise PromptTokenError(
                f"{type(pipeline).__name__} has no `{backbone.tokenizers[-1]}` to find the subjects' words with, "
                f"expected a pipeline of {backbone.title}. Encode prompts with the pipeline that was called."
            )
        length = tokenizers[-1].model_max_length
        pairs = pair_prompts(prompts["prompt"], prompts["prompt_2"])
        with ENCODING:
            found = [
                [
                    word_positions(*pair, subject.token, tokenizers, pipeline.maybe_convert_prompt)
                    if subject.token_indices is None
                    else _given_positions(subject, length)
                    for subject in row
                ]
                for pair, row in zip(pairs, resolved, strict=True)
            ]
    for row, places in zip(resolved, found, strict=True):
        _check_apart(row, places)
    return found


def _given_positions(subject: ResolvedSubject, length: int) -> tuple[int, ...]:
    if subject.token_indices is None:
        raise PromptTokenError(
            f"The prompt is given as embeddings, so the word {subject.token!r} cannot be looked up. "
            f"Pass Subject(..., token_indices=[...]), positions from 0 to {length - 1}."
        )
    if max(subject.token_indices) >= length:
        raise PromptTokenError(
            f"token_indices {list(subject.token_indices)} go beyond the prompt's {length} positions, 0 to {length - 1}."
        )
    return subject.token_indices


def _check_apart(row: Sequence[ResolvedSubject], places: Sequence[tuple[int, ...]]) -> None:
    for i, (one, where) in enumerate(zip(row, places, strict=True)):
        for other, elsewhere in list(zip(row, places, strict=True))[:i]:
            masked = one.mask is not None and other.mask is not None
            if set(where) & set(elsewhere) and not masked:
                raise PromptTokenError(
                    f"The subjects {other.token!r} and {one.token!r} share the positions "
                    f"{sorted(set(where) & set(elsewhere))} of the prompt. Give each subject its own word, or "
                    "give both a mask."
                )
