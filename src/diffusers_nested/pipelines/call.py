"""One pipeline call with subjects: checked and projected before denoising, released after it."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import PromptTokenError, RowsNotFoundError, SubjectError
from ..injection import BoundSubject, CallBinding, Dial, RowFinder
from ..mechanisms import get_mechanism
from ..prompts import pair_prompts, word_positions
from ..subjects import ResolvedSubject, resolve_subjects
from .state import NestedState, require_state

KEYWORDS = ("nested_adapter_image", "nested_adapter_token", "nested_adapter_image_embeds")
_PlacedSubject = tuple[BoundSubject, tuple[int, ...]]


class NestedCall:
    """The subjects of one call, from the check of the arguments to the end of denoising.

    Args:
        pipeline: An SDXL pipeline with a loaded adapter.
        nested: Values of ``KEYWORDS``.
        prompts: Arguments of the call, by name: ``prompt``, ``prompt_2``, ``prompt_embeds``.

    Raises:
        NestedAdapterError: Anything about the subjects is wrong; nothing has been changed then.
    """

    def __init__(self, pipeline: Any, nested: Mapping[str, Any], prompts: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self._state = require_state(pipeline)
        self._state.injector.check_in_place()
        tokens = {name: adapter.config["subject_token"] for name, adapter in self._state.adapters.items()}
        self._num_prompts = _count_prompts(prompts)
        resolved = resolve_subjects(
            nested["nested_adapter_image"],
            nested["nested_adapter_image_embeds"],
            nested["nested_adapter_token"],
            num_prompts=self._num_prompts,
            adapter_tokens=tokens,
        )
        positions = _find_positions(pipeline, resolved, prompts)
        for subject in _distinct(resolved):
            _check_subject(self._state, subject)
        bound = {id(subject): bind_subject(pipeline, self._state, subject) for subject in _distinct(resolved)}
        self._prompts: list[list[_PlacedSubject]] = [
            [(bound[id(subject)], where) for subject, where in zip(row, found, strict=True)]
            for row, found in zip(resolved, positions, strict=True)
        ]
        self._binding: CallBinding | None = None

    def record(self, positive: Tensor, negative: Tensor | None) -> None:
        """Take note of what ``encode_prompt`` returned: the rows to look for in the UNet."""
        self._binding = CallBinding(self._prompts, RowFinder(positive, self._num_prompts, negative))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the subjects act in the pipeline's UNet; all that was bound is released at the end."""
        try:
            with self._state.injector.bound_by_content(self._recorded, self._pipeline.unet):
                yield
        finally:
            self._prompts, self._binding = [], None

    def _recorded(self) -> CallBinding:
        if self._binding is None:
            raise RowsNotFoundError(
                f"{type(self._pipeline).__name__} reached its UNet without calling encode_prompt, so the rows of the "
                "prompt are not known. Nested adapters need a pipeline that calls encode_prompt."
            )
        return self._binding


def prompt_arguments(call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts among the arguments of a pipeline's ``__call__``, by name."""
    given = inspect.signature(call).bind_partial(*args, **kwargs).arguments
    return {name: given.get(name) for name in ("prompt", "prompt_2", "prompt_embeds")}


@torch.no_grad()
def bind_subject(pipeline: Any, state: NestedState, subject: ResolvedSubject) -> BoundSubject:
    """Encode a subject's images and project its tokens for every layer."""
    adapter, unet = state.adapters[subject.adapter_name], pipeline.unet
    device = pipeline._execution_device
    embeds = subject.embeds
    if embeds is None:
        embeds = encode_images(pipeline, state, subject.adapter_name, subject.images)
    adapter.to(device)
    # Photos of one subject: their tokens one after another, (images, N, D) -> (1, images · N, D) (section 5.2)
    tokens = embeds.to(device, adapter.dtype).flatten(0, 1)[None]
    projected = {
        path: (key.to(unet.dtype), value.to(unet.dtype)) for path, (key, value) in adapter.project(tokens).items()
    }
    dials: Mapping[str, Dial] = state.dials[subject.adapter_name]
    if subject.scale is not None:
        dials = dict.fromkeys(dials, Dial(subject.scale))
    return BoundSubject(
        projected,
        dials,
        alpha=adapter.config["alpha"],
        log_weights=_log_weights(subject.image_weights, embeds.shape[1], device),
        mechanism=get_mechanism(adapter.config["mechanism"]),
    )


@torch.no_grad()
def encode_images(pipeline: Any, state: NestedState, name: str, images: Sequence[Any]) -> Tensor:
    """Subject tokens of images, (images, N, token_dim).

    Raises:
        SubjectError: The adapter was loaded without an image encoder.
    """
    adapter, encoder = state.require(name), state.encoders[name]
    if encoder is None:
        raise SubjectError(
            f"The adapter {name!r} was loaded without an image encoder. Give `nested_adapter_image_embeds`, or load "
            "it without image_encoder_folder=None."
        )
    device = pipeline._execution_device
    encoder.model.to(device)
    adapter.to(device)
    return adapter.encode(encoder(images).to(adapter.dtype))


def _count_prompts(prompts: Mapping[str, Any]) -> int:
    if prompts["prompt"] is None and prompts["prompt_embeds"] is None:
        raise PromptTokenError(
            "A call with a subject needs `prompt`, or `prompt_embeds` with Subject(token_indices=…)."
        )
    if prompts["prompt"] is None:
        return len(prompts["prompt_embeds"])
    return 1 if isinstance(prompts["prompt"], str) else len(prompts["prompt"])


def _find_positions(
    pipeline: Any, resolved: Sequence[Sequence[ResolvedSubject]], prompts: Mapping[str, Any]
) -> list[list[tuple[int, ...]]]:
    """Token positions of every subject of every prompt, checked not to overlap."""
    if prompts["prompt"] is None:
        length = prompts["prompt_embeds"].shape[1]
        found = [[_given_positions(subject, length) for subject in row] for row in resolved]
    else:
        tokenizers = (getattr(pipeline, "tokenizer", None), pipeline.tokenizer_2)
        length = pipeline.tokenizer_2.model_max_length
        pairs = pair_prompts(prompts["prompt"], prompts["prompt_2"])
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
            if set(where) & set(elsewhere):
                raise PromptTokenError(
                    f"The subjects {other.token!r} and {one.token!r} share the positions "
                    f"{sorted(set(where) & set(elsewhere))} of the prompt. Give each subject a word of its own."
                )


def _check_subject(state: NestedState, subject: ResolvedSubject) -> None:
    width = state.adapters[subject.adapter_name].config["token_dim"]
    if subject.embeds is not None and subject.embeds.shape[-1] != width:
        raise SubjectError(
            f"nested_adapter_image_embeds have shape {tuple(subject.embeds.shape)}; the adapter "
            f"{subject.adapter_name!r} expects (images, tokens, {width}), as encode_nested_adapter_image returns."
        )


def _distinct(resolved: Sequence[Sequence[ResolvedSubject]]) -> list[ResolvedSubject]:
    return list({id(subject): subject for row in resolved for subject in row}.values())


def _log_weights(weights: Sequence[float] | None, tokens_per_image: int, device: torch.device) -> Tensor | None:
    """(images,) weights -> (images · N,) log-weights; −∞ for an image that takes no part."""
    if weights is None:
        return None
    return torch.tensor(weights, device=device).log().repeat_interleave(tokens_per_image)
