"""One pipeline call with subjects: checked and projected before denoising, released after it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..errors import RowsNotFoundError, SubjectError
from ..injection import CallBinding, PlacedSubject, RowFinder, StepCounter
from ..subjects import ResolvedSubject, resolve_subjects
from .bind import bind_subject
from .positions import count_prompts, find_positions
from .state import NestedState, require_state

KEYWORDS = ("nested_adapter_image", "nested_adapter_token", "nested_adapter_image_embeds")


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
        self._num_prompts = count_prompts(prompts)
        resolved = resolve_subjects(
            nested["nested_adapter_image"],
            nested["nested_adapter_image_embeds"],
            nested["nested_adapter_token"],
            num_prompts=self._num_prompts,
            adapter_tokens=tokens,
        )
        positions = find_positions(pipeline, resolved, prompts)
        for subject in _distinct(resolved):
            _check_subject(self._state, subject)
        for row in resolved:
            _check_same_mechanism(self._state, row)
        bound = {id(subject): bind_subject(pipeline, self._state, subject) for subject in _distinct(resolved)}
        self._prompts: list[list[PlacedSubject]] = [
            [(bound[id(subject)], where) for subject, where in zip(row, found, strict=True)]
            for row, found in zip(resolved, positions, strict=True)
        ]
        windows = [one.steps for one in bound.values() if one.steps != (0.0, 1.0)]
        self._counter = StepCounter(self._num_steps, windows) if windows else None
        self._binding: CallBinding | None = None

    def record(self, positive: Tensor, negative: Tensor | None) -> None:
        """Take note of what ``encode_prompt`` returned: the rows to look for in the UNet."""
        finder = RowFinder(positive, self._num_prompts, negative)
        self._binding = CallBinding(self._prompts, finder, self._counter)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the subjects act in the pipeline's UNet; all that was bound is released at the end."""
        try:
            with self._state.injector.bound_by_content(self._recorded, self._pipeline.unet):
                yield
            if self._binding is not None and not self._binding.has_acted:
                raise RowsNotFoundError(
                    "No row with the prompt reached the UNet, negative prompts only, so that no subject could act. "
                    "Use a guidance that computes the prompt."
                )
        finally:
            self._prompts, self._binding = [], None

    def _num_steps(self) -> int:
        # pipelines that start or end on the way say how many steps are left to them; the others take them all
        return getattr(self._pipeline, "_num_timesteps", None) or len(self._pipeline.scheduler.timesteps)

    def _recorded(self) -> CallBinding:
        if self._binding is None:
            raise RowsNotFoundError(
                f"{type(self._pipeline).__name__} reached its UNet without calling encode_prompt, so the rows of the "
                "prompt are not known. Nested adapters need a pipeline that calls encode_prompt."
            )
        return self._binding


def _check_subject(state: NestedState, subject: ResolvedSubject) -> None:
    width = state.adapters[subject.adapter_name].config["token_dim"]
    if subject.embeds is not None and subject.embeds.shape[-1] != width:
        raise SubjectError(
            f"nested_adapter_image_embeds have shape {tuple(subject.embeds.shape)}; the adapter "
            f"{subject.adapter_name!r} expects (images, tokens, {width}), as encode_nested_adapter_image returns."
        )


def _check_same_mechanism(state: NestedState, row: Sequence[ResolvedSubject]) -> None:
    """The mechanisms change the same attention, and the paper says of none how it would go together with another."""
    found = {state.adapters[subject.adapter_name].config["mechanism"]: subject.token for subject in row}
    if len(found) > 1:
        listed = ", ".join(f"{token!r} by {mechanism!r}" for mechanism, token in found.items())
        raise SubjectError(
            f"The subjects of one prompt enter it by different mechanisms: {listed}. Use adapters of one mechanism for "
            "all subjects of a prompt."
        )


def _distinct(resolved: Sequence[Sequence[ResolvedSubject]]) -> list[ResolvedSubject]:
    return list({id(subject): subject for row in resolved for subject in row}.values())
