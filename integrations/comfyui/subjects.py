"""The subjects that act in a model: what a sampling computes of them, and where they stand in a call of the UNet."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusers_nested import NestedAdapterError, RowsNotFoundError, SubjectError
from diffusers_nested.compat import writes_into
from diffusers_nested.injection import Groups, Kind, Placement, ProjectedSubject, Prompt, Storage
from diffusers_nested.pipelines.cache import SubjectCache
from diffusers_nested.pipelines.loaded import LoadedAdapter
from diffusers_nested.subjects import ResolvedSubject

from .rows import KnownRows, find_rows, holds_any, lengthened, repeated
from .runtime import Computer, make_room

KEY = "nested_adapter"  # of the subjects among a model's transformer_options


@dataclass(frozen=True, eq=False)
class ActingSubject:
    """A subject, given once to a model.

    Attributes:
        adapter: The adapter, with the model's numbers of heads.
        subject: Its tokens, scale, steps and mask.
        prompts: The embeddings (1, t, D) in which it stands, each with the positions of its word.
        sigmas: The largest and the smallest noise level at which it acts.
    """

    adapter: LoadedAdapter
    subject: ResolvedSubject
    prompts: tuple[tuple[Tensor, tuple[int, ...]], ...]
    sigmas: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Batch:
    """The subjects in batches of one length and type.

    Attributes:
        prompts: The embeddings of the prompts there; None for those that cannot be there.
        rows: Tells the placement which rows hold them.
        placement: The subjects at their words.
    """

    prompts: tuple[Tensor | None, ...]
    rows: KnownRows
    placement: Placement


class ActingSubjects:
    """All subjects of a model. Copies of the model share it, and one more subject makes another one.

    Args:
        subjects: The subjects, in the order in which they were given.

    Raises:
        SubjectError: Two of them share a word without masks, or use different mechanisms in one prompt.
    """

    def __init__(self, subjects: Sequence[ActingSubject]) -> None:
        self._subjects = tuple(subjects)
        self._prompts: list[Tensor] = []  # without repetitions
        self._standing: list[list[tuple[int, tuple[int, ...]]]] = []  # per prompt, subject and positions
        for number, subject in enumerate(self._subjects):
            for states, positions in subject.prompts:
                self._stand(number, states, positions)
        self._state: object = None
        self._projected: list[ProjectedSubject] = []
        self._batches: dict[tuple[int, torch.dtype], _Batch] = {}
        self._last: tuple[Any, Groups] | None = None

    def __deepcopy__(self, memo: object) -> "ActingSubjects":
        # ComfyUI copies a model's options for every node
        return self

    def with_subject(self, subject: ActingSubject) -> "ActingSubjects":
        """These subjects and one more."""
        return ActingSubjects([*self._subjects, subject])

    def check_given(self, conditionings: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Raise unless a sampling was given a prompt with a subject.

        Raises:
            RowsNotFoundError: None of them is one.
        """
        given = [entry.get("cross_attn") for entries in conditionings.values() for entry in entries or ()]
        if not any([holds_any(states, self._prompts) for states in given]):
            raise RowsNotFoundError(
                f"None of the {len(given)} conditionings of the sampler is one that a subject was applied to, so no "
                "subject could act. Connect the same conditioning to 'Apply Nested Adapter' and to the sampler; nodes "
                "that change embeddings, such as Conditioning (Concat), belong before 'Apply Nested Adapter'."
            )

    @torch.no_grad()
    def prepare(self, device: torch.device, dtype: torch.dtype) -> None:
        """Project every subject for all layers, unless that has been done; where and as the model computes.

        Raises:
            NestedAdapterError: What the layers would read is not finite.
        """
        if self._state == (device, dtype):
            return
        self.release()
        make_room([one.adapter.adapter for one in self._subjects], device)
        # tensors of inference mode could not be used later outside it
        with torch.inference_mode(False):
            computer, nothing = Computer(device, dtype), SubjectCache(0)
            self._projected = [one.adapter.project(computer, one.subject, Storage(), nothing) for one in self._subjects]
        self._state = (device, dtype)

    def release(self) -> None:
        """Free what ``prepare`` and the calls of the UNet since then have computed."""
        self._state, self._projected, self._batches, self._last = None, [], {}, None

    def groups(self, states: Tensor, dtype: torch.dtype, options: Mapping[str, Any]) -> Groups:
        """Groups of rows for one call of the UNet, each with a flag per subject: whether it acts now.

        Args:
            states: Prompt embeddings as they reach the UNet, (rows, T, D).
            dtype: In which the layers compute.
            options: What ComfyUI tells patches of the call.
        """
        call = (states, options.get("sigmas"), writes_into(states), tuple(options["original_shape"]))
        if self._last is None or not _is_same(self._last[0], call):
            self.prepare(states.device, dtype)
            self._last = _weak(call), self._groups(states, options)
        return self._last[1]

    def _groups(self, states: Tensor, options: Mapping[str, Any]) -> Groups:
        batch = self._batch(states)
        numbers = find_rows(states, batch.prompts, options.get("cond_or_uncond") or ())
        if numbers.count(None) == len(numbers):
            return []
        batch.rows.numbers = numbers
        found = batch.placement.groups(torch.empty(options["original_shape"], device="meta"), None, states)
        sigma = self._sigma(options)
        return [(group, [self._acts(kind, sigma) for kind in group.kinds]) for group, _ in found]

    def _sigma(self, options: Mapping[str, Any]) -> float | None:
        """The noise level, for which the device is waited for; None if all subjects act at all of them."""
        sigmas = options.get("sigmas")
        always = all([one.subject.steps == (0.0, 1.0) for one in self._subjects])
        return None if always or sigmas is None else float(sigmas.max())

    def _acts(self, kind: Kind, sigma: float | None) -> bool:
        highest, lowest = next(one.sigmas for one in self._subjects if one.subject.steps == kind.steps)
        return sigma is None or lowest <= sigma <= highest

    def _batch(self, states: Tensor) -> "_Batch":
        """The subjects in batches like this one."""
        length = states.shape[1]
        if (length, states.dtype) not in self._batches:
            rows = KnownRows()
            prompts: list[Prompt] = [
                [(self._projected[i], repeated(positions, known.shape[1], length)) for i, positions in standing]
                for known, standing in zip(self._prompts, self._standing, strict=True)
            ]
            known = tuple([lengthened(one, states) for one in self._prompts])
            self._batches[length, states.dtype] = _Batch(known, rows, Placement(prompts, rows))
        return self._batches[length, states.dtype]

    def _stand(self, number: int, states: Tensor, positions: tuple[int, ...]) -> None:
        """Let a subject stand in a prompt."""
        same = [
            i for i, known in enumerate(self._prompts) if known.shape == states.shape and torch.equal(known, states)
        ]
        if not same:
            self._prompts.append(states)
            self._standing.append([])
            same = [len(self._prompts) - 1]
        standing = self._standing[same[0]]
        if (number, positions) in standing:  # the same prompt in two areas
            return
        for other, taken in standing:
            _check_apart(self._subjects[number], self._subjects[other], set(positions) & set(taken))
        standing.append((number, positions))


def _check_apart(subject: ActingSubject, other: ActingSubject, shared: set[int]) -> None:
    """Two subjects may share a word only if both have masks; and the paper has no two mechanisms together."""
    if shared and (subject.subject.mask is None or other.subject.mask is None):
        ours, theirs = subject.subject.token, other.subject.token
        if ours != theirs:
            raise SubjectError(
                f"The words {ours!r} and {theirs!r} of two subjects share a part of the prompt. Give each its own "
                "word, or give both a mask."
            )
        raise SubjectError(
            f"Two subjects have the word {ours!r} of one prompt. Give each its own word, or give both a mask. For "
            "several photos of one subject, connect a batch of images to one 'Apply Nested Adapter'."
        )
    ours, theirs = subject.adapter.mechanism.name, other.adapter.mechanism.name
    if ours != theirs:
        raise NestedAdapterError(
            f"The subjects of one prompt use different mechanisms: {subject.subject.token!r} by {ours!r}, "
            f"{other.subject.token!r} by {theirs!r}. Use adapters with the same mechanism."
        )


def _weak(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call is known by, without keeping its tensors."""
    return tuple(weakref.ref(part) if isinstance(part, Tensor) else part for part in call)


def _is_same(known: tuple[Any, ...], call: tuple[Any, ...]) -> bool:
    pairs = zip(known, call, strict=True)
    return all([old() is new if isinstance(old, weakref.ref) else old is new or old == new for old, new in pairs])
