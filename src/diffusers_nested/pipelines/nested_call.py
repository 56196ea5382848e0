"""One pipeline call with subjects, which are checked and projected before denoising and released after it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..compat import uncompiled
from ..errors import NestedAdapterError, RowsNotFoundError, SubjectError
from ..injection import Gate, Groups, Placement, Prompt, RowFinder, StepCounter, outside_calls
from ..subjects import ResolvedSubject, resolve_subjects
from .loaded import LoadedAdapter
from .loop_steps import count_steps, has_several_loops
from .prompt_words import PROMPTS, count_prompts, find_positions
from .state import NestedState, loaded_on, require_state

_NO_STEP = (
    "The call has no denoising step, so no subject can act: `num_inference_steps`, together with `strength`, "
    "`denoising_start` or `denoising_end`, leaves none. Use more steps, or a larger part of them."
)
_FREE_NOISE = (
    "Subjects cannot act with FreeNoise, which blends the embeddings of prompts from frame to frame. Call "
    "disable_free_noise() first."
)
_CALLBACKS = ("callback_on_step_end", "callback")


class NestedCall:
    """The subjects of one call, from the check of the arguments to the end of denoising.

    Args:
        pipeline: A pipeline with a loaded adapter.
        nested: The values of the nested keywords, by name.
        arguments: The other arguments of the call, by name.
        may_write: Whether something other than a callback may write into the prompt's embeddings.

    Raises:
        NestedAdapterError: A subject cannot be used; nothing has been changed.
    """

    def __init__(
        self, pipeline: Any, nested: Mapping[str, Any], arguments: Mapping[str, Any], may_write: bool = False
    ) -> None:
        self.pipeline = pipeline
        self._state = require_state(pipeline)
        if getattr(pipeline, "free_noise_enabled", False):
            raise RowsNotFoundError(_FREE_NOISE)
        self._state.injector.check_in_place()
        self._prompts = {name: arguments.get(name) for name in PROMPTS}
        self._resolved = resolve_subjects(
            nested["nested_adapter_image"],
            nested["nested_adapter_image_embeds"],
            nested["nested_adapter_token"],
            num_prompts=count_prompts(self._prompts),
            adapter_tokens=self._state.subject_tokens,
        )
        self._positions = self._find(pipeline, self._resolved, self._prompts)
        distinct = _distinct(self._resolved)
        for subject in distinct:
            _check_width(self._state, subject)
        for row in self._resolved:
            _check_same_mechanism(self._state, row)
        with self.gate.lock:  # another call may be moving the same adapter
            self._projected = {id(one): self._state.project(pipeline, one) for one in distinct}
        self._is_watched = may_write or any([arguments.get(name) is not None for name in _CALLBACKS])
        self._denoising_end = arguments.get("denoising_end")
        self._shown_steps: int | None = None  # on the pipeline's progress bar
        windows = [one.steps for one in distinct if one.steps != (0.0, 1.0)]
        self._counter = StepCounter(self._total_steps, windows, has_several_loops(pipeline)) if windows else None
        self._placement: Placement | None = None
        self._was_reached = False

    @property
    def gate(self) -> Gate:
        """The gate of the UNet in which the subjects act."""
        return self._state.injector.gate

    @property
    def subjects(self) -> Sequence[Sequence[ResolvedSubject]]:
        """The subjects of each prompt."""
        return self._resolved

    def adapter_of(self, subject: ResolvedSubject) -> LoadedAdapter:
        """The adapter that a subject uses."""
        return self._state.loaded[subject.adapter_name]

    @property
    def adapters(self) -> set[str]:
        """The names of the adapters in use."""
        return {subject.adapter_name for subject in _distinct(self._resolved)}

    def place(self, pipeline: Any, arguments: Mapping[str, Any]) -> list[Prompt]:
        """Find the subjects' words in prompts that are about to be encoded.

        First come the call's own prompts, later those of a callback. If a word is missing in the latter, that matters
        only once their rows reach the UNet.

        Args:
            pipeline: The pipeline that encodes them.
            arguments: The arguments of its ``encode_prompt``, by name.

        Raises:
            NestedAdapterError: A word cannot be placed in a prompt of the call itself.
        """
        prompts = {name: arguments.get(name) for name in PROMPTS}
        if prompts["prompt"] is None and prompts["prompt_embeds"] is None:
            prompts = self._prompts
        if self._placement is None:
            known = pipeline is self.pipeline and all([prompts[name] is self._prompts[name] for name in PROMPTS])
            positions = self._positions if known else self._find(pipeline, self._resolved, prompts)
            return self._placed(self._resolved, positions)
        try:
            resolved = _for_later_prompts(self._resolved, count_prompts(prompts))
            return self._placed(resolved, self._find(pipeline, resolved, prompts))
        except NestedAdapterError as error:
            return [error] * count_prompts(prompts)

    def record(self, placed: Sequence[Prompt], positive: Tensor, negative: Tensor | None) -> None:
        """Record what ``encode_prompt`` returned for the prompts: these are the rows to look for in the UNet."""
        if self._placement is None:
            finder = RowFinder(positive, len(placed), negative, self._is_watched)
            self._placement = Placement(placed, finder, self._counter)
        else:
            self._placement.add(placed, positive, negative)

    def begin_loop(self, total: int | None) -> None:
        """Record that a denoising loop begins, with this many steps on the progress bar."""
        self._shown_steps = total
        if self._placement is not None:
            self._placement.begin_loop()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the subjects act in the pipeline's UNet, and release what was projected at the end.

        Raises:
            NestedAdapterError: No subject could act in any step.
        """
        unet = self.pipeline.unet
        try:
            with self.gate.serve(unet, self):  # from here on, none of its adapters can be unloaded
                self._check_loaded()
                yield
        except Exception as error:
            if self._shown_steps == 0:  # then pipelines fail on empty latents, without saying why
                raise RowsNotFoundError(_NO_STEP) from error
            raise
        else:
            self._check_acted(unet)
        finally:
            self._projected, self._placement = {}, None

    def groups(self, sample: Tensor, timestep: object, states: Tensor) -> Groups:
        """Groups of rows for one forward pass of the UNet; see ``Placement.groups``."""
        self._was_reached = True
        if not self._state.injector.is_in_place:  # a callback has turned attention slicing on, or the like
            self._state.injector.check_in_place()
        if self._placement is None:
            raise RowsNotFoundError(
                f"{type(self.pipeline).__name__} reached its UNet without calling encode_prompt, so the rows of the "
                "prompt are unknown. Nested adapters need a pipeline that calls encode_prompt."
            )
        return self._placement.groups(sample, timestep, states)

    def _placed(
        self, resolved: Sequence[Sequence[ResolvedSubject]], positions: Sequence[Sequence[tuple[int, ...]]]
    ) -> list[Prompt]:
        """The subjects of each prompt, each with its positions there."""
        placed: list[Prompt] = []
        for row, found in zip(resolved, positions, strict=True):
            placed.append([(self._projected[id(subject)], where) for subject, where in zip(row, found, strict=True)])
        return placed

    def _find(
        self, pipeline: Any, resolved: Sequence[Sequence[ResolvedSubject]], prompts: Mapping[str, Any]
    ) -> list[list[tuple[int, ...]]]:
        """Positions of the subjects in prompts, by the tokenizers that the UNet's family has."""
        return find_positions(pipeline, self._state.backbone, resolved, prompts)

    def _total_steps(self) -> int:
        return count_steps(self.pipeline, self._denoising_end, self._shown_steps)

    def _check_loaded(self) -> None:
        gone = sorted(self.adapters - self._state.loaded.keys())
        if gone:
            raise NestedAdapterError(
                f"The adapter {gone[0]!r} was unloaded while this call was reading its photos. Load it, and call again."
            )

    def _check_acted(self, unet: Any) -> None:
        if self.pipeline.unet is not unet:
            raise NestedAdapterError(
                "`pipe.unet` was replaced during the call, by a callback or another thread, so subjects did not act in "
                "all steps. Replace it between two calls, and load the adapter for the new UNet."
            )
        if not self._was_reached:
            raise RowsNotFoundError(_NO_STEP)
        if self._placement is not None and not self._placement.has_acted:
            raise RowsNotFoundError(
                "Only rows with negative prompts reached the UNet, so no subject could act. Use a guidance that "
                "also computes the prompt."
            )
        if self._counter is not None:
            self._counter.check_used()


@contextmanager
def plainly(pipeline: Any) -> Iterator[None]:
    """A call without subjects; those of a call around it or beside it do not act in it."""
    unet = getattr(pipeline, "unet", None)
    state = loaded_on(uncompiled(unet))
    with outside_calls() if state is None else state.injector.gate.serve(pipeline.unet, None):
        yield


def _for_later_prompts(
    resolved: Sequence[Sequence[ResolvedSubject]], num_prompts: int
) -> Sequence[Sequence[ResolvedSubject]]:
    """The subjects of prompts that are encoded during a call."""
    for subject in _distinct(resolved):
        if subject.token_indices is not None:
            raise SubjectError(
                f"The subject {subject.token!r} stands at token_indices {list(subject.token_indices)} of the call's "
                "prompt, but its position in a prompt encoded during the call is unknown. Name it by its word."
            )
    if num_prompts == len(resolved):
        return resolved
    if len({tuple(map(id, row)) for row in resolved}) > 1:
        raise SubjectError(
            f"{num_prompts} prompts were encoded during a call with {len(resolved)} prompts that each have their own "
            "subjects. Encode one for each of them, in the same order."
        )
    return [resolved[0]] * num_prompts


def _check_width(state: NestedState, subject: ResolvedSubject) -> None:
    width = state.loaded[subject.adapter_name].adapter.config["token_dim"]
    if subject.embeds is not None and subject.embeds.shape[-1] != width:
        raise SubjectError(
            f"nested_adapter_image_embeds have shape {tuple(subject.embeds.shape)}; the adapter "
            f"{subject.adapter_name!r} expects (images, tokens, {width}), as encode_nested_adapter_image returns."
        )


def _check_same_mechanism(state: NestedState, row: Sequence[ResolvedSubject]) -> None:
    """Mechanisms change the same attention, and the paper does not say how to combine two of them."""
    found = {state.loaded[subject.adapter_name].mechanism.name: subject.token for subject in row}
    if len(found) > 1:
        listed = ", ".join(f"{token!r} by {mechanism!r}" for mechanism, token in found.items())
        raise SubjectError(
            f"The subjects of one prompt use different mechanisms: {listed}. Use adapters with the same mechanism for "
            "all subjects of a prompt."
        )


def _distinct(resolved: Sequence[Sequence[ResolvedSubject]]) -> list[ResolvedSubject]:
    return list({id(subject): subject for row in resolved for subject in row}.values())
