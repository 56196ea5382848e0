"""Finds the rows of a UNet's batch that hold the prompt, by their content.

Pipelines order conditional and unconditional rows in many ways, repeat them, or drop some during the run. The
embeddings themselves tell which row is which.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..compat import writes_into
from ..errors import RowsNotFoundError

_CACHED_TENSORS = 4
_INDISTINCT = (
    "A negative prompt has the same embeddings as a prompt, its own or another one of the call, so the subject's rows "
    "cannot be told apart. Change the negative prompt, leave it out, or call once for every prompt."
)
_CHANGED = (
    "Something changed the embeddings between encode_prompt and the UNet. Pass them as `prompt_embeds` instead; a "
    "callback that switches to another prompt must get its embeddings from pipe.encode_prompt."
)


class Finder(Protocol):
    """Tells which row of a UNet's batch holds which prompt."""

    @property
    def has_found(self) -> bool:
        """Whether a row with a prompt has been found."""
        ...

    def add(self, positive: Tensor, num_prompts: int, negative: Tensor | None = None) -> None:
        """Add prompts, numbered after those already known."""
        ...

    def find(self, encoder_hidden_states: Tensor, frames: int = 1) -> list[int | None]:
        """The prompt number of every row, None for rows without a prompt."""
        ...

    def find_negative(self, encoder_hidden_states: Tensor, frames: int = 1) -> list[int | None]:
        """Of every row, the prompt that its negative prompt belongs to."""
        ...

    def pictures(self, rows: Sequence[int | None]) -> list[int]:
        """The picture that each row belongs to, given the prompts of the rows; -1 for rows without a prompt."""
        ...


class RowFinder:
    """Finds the prompts of one call among the rows that reach the UNet.

    Args:
        positive: Embeddings of the prompts as ``encode_prompt`` returned them, (P · n, T, D), with the n images
            of a prompt next to each other.
        num_prompts: P.
        negative: Embeddings of the negative prompts, if any.
        is_watched: Whether something, such as a callback, may write into the embeddings during the run.

    Attributes:
        has_found: Whether a row with a prompt has been found.

    Raises:
        RowsNotFoundError: A prompt and a negative prompt are the same, so their rows cannot be told apart.
    """

    def __init__(
        self, positive: Tensor, num_prompts: int, negative: Tensor | None = None, is_watched: bool = False
    ) -> None:
        self._encoded: list[_Encoded] = []
        self._is_watched = is_watched
        self.has_found: bool = False
        self._cache: dict[int, tuple[Tensor, int | None, _Found]] = {}
        self.add(positive, num_prompts, negative)
        if negative is not None and negative.shape[1:] == positive.shape[1:] and bool(_same(negative, positive).any()):
            raise RowsNotFoundError(_INDISTINCT)

    def add(self, positive: Tensor, num_prompts: int, negative: Tensor | None = None) -> None:
        """Add prompts, numbered after those already known, which take precedence."""
        first = self._encoded[-1].first + self._encoded[-1].num_prompts if self._encoded else 0
        # copies, as a callback may write into what it was given
        negative = None if negative is None else negative.detach().clone()
        self._encoded.append(_Encoded(positive.detach().clone(), num_prompts, first, negative))

    def find(self, encoder_hidden_states: Tensor, frames: int = 1) -> list[int | None]:
        """The prompt number of every row, None for rows without a prompt.

        The comparison waits for the device, so its result is kept as long as the same tensor comes in.

        Args:
            encoder_hidden_states: (rows, T, D).
            frames: How many consecutive rows belong together, like the frames of a video.

        Raises:
            RowsNotFoundError: No row holds a prompt of this call, and not all of them hold negative prompts; or those
                of some pictures do, and of others neither prompt nor negative prompt is known.
        """
        return self._find(encoder_hidden_states, frames).prompts

    def find_negative(self, encoder_hidden_states: Tensor, frames: int = 1) -> list[int | None]:
        """Like ``find``, for negative prompts: of every row, the prompt that its negative prompt belongs to."""
        return self._find(encoder_hidden_states, frames).negative_prompts

    def _find(self, encoder_hidden_states: Tensor, frames: int) -> "_Found":
        known = self._cache.get(id(encoder_hidden_states))
        version = writes_into(encoder_hidden_states)  # None: inference tensors do not count writes
        if known is not None and known[1] == version and not (version is None and self._is_watched):
            return known[2]
        found = self._compare(encoder_hidden_states[::frames])
        found = _Found(*([row for row in rows for _ in range(frames)] for rows in found))
        if len(self._cache) >= _CACHED_TENSORS:
            self._cache.pop(next(iter(self._cache)))
        # keeping the tensor keeps its id taken
        self._cache[id(encoder_hidden_states)] = (encoder_hidden_states, version, found)
        return found

    def pictures(self, rows: Sequence[int | None]) -> list[int]:
        """The picture that each row belongs to, given the prompts of the rows; -1 for rows without a prompt.

        Rows that a pipeline repeats belong to the same picture, and another prompt of the call continues it.
        """
        seen: dict[int, int] = defaultdict(int)
        pictures = []
        for number in rows:
            if number is None:
                pictures.append(-1)
                continue
            encoded = next(one for one in reversed(self._encoded) if one.first <= number)
            of_prompt = encoded.images_per_prompt
            pictures.append((number - encoded.first) * of_prompt + seen[number] % of_prompt)
            seen[number] += 1
        return pictures

    def _compare(self, states: Tensor) -> "_Found":
        rows: list[int | None] = [None] * len(states)
        for encoded in self._encoded:
            rows = _first(rows, encoded.assign(_matches(states, encoded.positive)))
        self.has_found |= rows.count(None) < len(rows)
        negatives: list[int | None] = [None] * len(states)
        for encoded in self._encoded:
            negatives = _first(negatives, encoded.assign(_matches(states, encoded.negative)))
        if any([None not in both for both in zip(negatives, rows, strict=True)]):
            raise RowsNotFoundError(_INDISTINCT)
        # guiders that call the UNet once per condition send it negative prompts alone
        if rows.count(None) == len(rows) and None in negatives:
            positive = self._encoded[0].positive
            raise RowsNotFoundError(
                f"None of the {len(states)} rows that reached the UNet, of shape {tuple(states.shape[1:])}, is one of "
                f"the call's {len(positive)} prompt embeddings, of shape {tuple(positive.shape[1:])}. {_CHANGED}"
            )
        self._check_pictures(rows, negatives)
        return _Found(rows, negatives)

    def _check_pictures(self, rows: Sequence[int | None], negatives: Sequence[int | None]) -> None:
        """Refuse unknown embeddings for a few pictures of those whose prompts are known.

        The rows of all pictures follow each other, once for every condition.
        """
        total = len(self._encoded[0].positive)
        for first in range(0, len(rows), total) if len(rows) % total == 0 else ():
            condition = range(first, first + total)
            unknown = [row for row in condition if rows[row] is None and negatives[row] is None]
            if unknown and any([rows[row] is not None for row in condition]):
                raise RowsNotFoundError(
                    f"The embeddings of picture {unknown[0] - first + 1} of {total} that reached the UNet are none of "
                    f"the call's prompts, unlike those of others. {_CHANGED}"
                )


class _Found(NamedTuple):
    """Of every row, the number of the prompt that it holds, or that its negative prompt belongs to."""

    prompts: list[int | None]
    negative_prompts: list[int | None]


@dataclass(frozen=True, eq=False)
class _Encoded:
    """What one call of ``encode_prompt`` returned; its prompts are numbered from ``first``."""

    positive: Tensor
    num_prompts: int
    first: int
    negative: Tensor | None

    @property
    def images_per_prompt(self) -> int:
        """How many rows each prompt has."""
        return len(self.positive) // self.num_prompts

    def assign(self, matches: list[list[bool]]) -> list[int | None]:
        """The prompt of every row, given which of the positive or of the negative embeddings it equals."""
        # Prompts with the same words have the same embeddings, so their rows are assigned in turn.
        seen: dict[tuple[int, ...], int] = defaultdict(int)
        rows: list[int | None] = []
        for match in matches:
            # a negative prompt may serve several prompts
            slots = max(len(match), self.num_prompts)
            candidates = tuple([i for i in range(slots) if match and match[i % len(match)]])
            if not candidates:
                rows.append(None)
                continue
            chosen = candidates[seen[candidates] % len(candidates)]
            seen[candidates] += 1
            rows.append(self.first + chosen * self.num_prompts // slots)
        return rows


def _first(known: list[int | None], found: list[int | None]) -> list[int | None]:
    """What is known of each row, else what has been found."""
    return [new if old is None else old for old, new in zip(known, found, strict=True)]


def _matches(states: Tensor, known: Tensor | None) -> list[list[bool]]:
    """Which of the known embeddings each row equals."""
    if known is None or states.shape[1:] != known.shape[1:]:
        return [[] for _ in states]
    return _same(states, known).tolist()


def _same(left: Tensor, right: Tensor) -> Tensor:
    """Which rows are equal in every entry: (R, T, D), (U, T, D) -> (R, U) of bool."""
    right = right.to(left.device, left.dtype)
    return torch.stack([(left == row).flatten(1).all(dim=1) for row in right], dim=1)
