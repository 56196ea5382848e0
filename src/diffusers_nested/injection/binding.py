"""What a call binds to the layers: projected subjects, and the rows and tokens at which they act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention import SubjectValues
from ..mechanisms import Mechanism, get_mechanism
from .rows import RowFinder
from .scales import Dial


@dataclass(eq=False)
class BoundSubject:
    """A subject whose tokens are projected for every layer.

    Attributes:
        projected: Layer path -> (K̆, V̆), each (1 or rows, N, inner width).
        dials: Layer path -> scale.
        alpha: Norm of the nested values in units of the word's own.
        log_weights: (N,), added to the nested logits; None for equal weights.
        mechanism: How the subject enters a layer.
    """

    projected: Mapping[str, tuple[Tensor, Tensor]]
    dials: Mapping[str, Dial]
    alpha: float | None = 2.0
    log_weights: Tensor | None = None
    mechanism: Mechanism = field(default_factory=lambda: get_mechanism("nested"))


@dataclass(frozen=True, eq=False)
class Placed:
    """A subject at token positions of some rows; ``positions`` is (rows, T) with 1 at the subject's word."""

    subject: BoundSubject
    positions: Tensor


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows of the UNet's batch that share their subjects; ``rows`` is None for all of them."""

    rows: Tensor | None
    placed: tuple[Placed, ...]

    def active(self, path: str) -> list[Placed]:
        """Those whose dial is not at 0 in this layer."""
        return [placed for placed in self.placed if placed.subject.dials[path].value > 0]


def subject_values(placed: Placed, path: str, heads: int) -> SubjectValues:
    """A placed subject as the layer at ``path`` sees it."""
    key, value = placed.subject.projected[path]
    # (rows, N, H · d) -> (rows, H, N, d)
    key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (key, value))
    subject = placed.subject
    scale = subject.dials[path].to(key.device)
    return SubjectValues(key, value, placed.positions, scale, subject.alpha, subject.log_weights)


class CallBinding:
    """The subjects of one pipeline call, placed anew whenever other rows reach the UNet.

    Args:
        prompts: Per prompt, its subjects and their token positions.
        finder: Tells which row belongs to which prompt.
    """

    def __init__(self, prompts: Sequence[Sequence[tuple[BoundSubject, tuple[int, ...]]]], finder: RowFinder) -> None:
        self._prompts = prompts
        self._finder = finder
        self._placed: dict[tuple[int | None, ...], tuple[RowGroup, ...]] = {}

    def groups(self, encoder_hidden_states: Tensor) -> tuple[RowGroup, ...]:
        """Groups of rows for these prompt embeddings (rows, T, D)."""
        rows = tuple(self._finder.find(encoder_hidden_states))
        if rows not in self._placed:
            self._placed[rows] = self._place(rows, encoder_hidden_states)
        return self._placed[rows]

    def _place(self, rows: tuple[int | None, ...], like: Tensor) -> tuple[RowGroup, ...]:
        together: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(rows):
            if prompt is not None and self._prompts[prompt]:
                subjects = tuple(id(subject) for subject, _ in self._prompts[prompt])
                together.setdefault(subjects, []).append(row)
        return tuple(self._group(members, rows, like) for members in together.values())

    def _group(self, members: list[int], rows: tuple[int | None, ...], like: Tensor) -> RowGroup:
        first = self._prompts[rows[members[0]] or 0]
        placed = []
        for slot, (subject, _) in enumerate(first):
            positions = torch.zeros(len(members), like.shape[1], dtype=like.dtype)
            for i, row in enumerate(members):
                positions[i, list(self._prompts[rows[row] or 0][slot][1])] = 1
            placed.append(Placed(subject, positions.to(like.device)))
        return RowGroup(torch.tensor(members, device=like.device), tuple(placed))
