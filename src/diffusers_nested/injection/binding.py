"""What a call binds to the layers: projected subjects, and the rows and tokens at which they act."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention import SubjectValues
from ..mechanisms import Mechanism, get_mechanism
from .masks import masks_at, share_out
from .scales import Dial


@dataclass(eq=False)
class BoundSubject:
    """A subject whose tokens are projected for every layer.

    Attributes:
        projected: Layer path -> what the layer reads: (K̆, V̆) or (V̆,), each (1 or rows, N, inner width), or
            (tokens,) for a mechanism without projections.
        dials: Layer path -> scale.
        alpha: Norm of the nested values in units of the word's own.
        log_weights: (N,), added to the nested logits; None for equal weights.
        mechanism: How the subject enters a layer.
        mask: Where in the image the subject acts, (h, w) from 0 to 1; None for everywhere.
        steps: First and last part of the denoising steps in which it acts, from 0 to 1.
        kind: Rows whose subjects are of one kind are computed together. Two subjects are of one kind if they
            differ in their tokens, log-weights and masks only, and have as many of these.
    """

    projected: Mapping[str, tuple[Tensor, ...]]
    dials: Mapping[str, Dial]
    alpha: float | None = 2.0
    log_weights: Tensor | None = None
    mechanism: Mechanism = field(default_factory=lambda: get_mechanism("nested"))
    mask: Tensor | None = None
    steps: tuple[float, float] = (0.0, 1.0)
    kind: Hashable = None

    def __post_init__(self) -> None:
        if self.kind is None:
            self.kind = id(self)


@dataclass(frozen=True, eq=False)
class Placed:
    """Subjects of one kind at token positions of some rows.

    Attributes:
        subjects: One for all rows, or one for each.
        positions: (rows, T), 1 at the subject's word.
    """

    subjects: tuple[BoundSubject, ...]
    positions: Tensor

    def stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        """One entry per subject, as one tensor with a row each."""
        return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """Rows of the UNet's batch and the subjects that act on them, as one layer sees them.

    Attributes:
        rows: Their numbers; None for all rows.
        others: The numbers of all other rows; None if there are none.
        subjects: As the mechanism takes them; for one without projections the values are still tokens, (rows, N, D).
        mechanism: How they enter the layer.
        batch: How many rows the UNet was given; None if that is not known.
    """

    rows: Tensor | None
    others: Tensor | None
    subjects: tuple[SubjectValues, ...]
    mechanism: Mechanism
    batch: int | None = None


class RowGroup:
    """Rows of the UNet's batch whose subjects are of the same kinds.

    Args:
        placed: Their subjects.
        rows: Their numbers; None for all rows.
        others: The numbers of all other rows.
        size: Height and width of the latents that the UNet is given; needed for masks only.
        batch: How many rows the UNet is given, where the rows are numbered.
    """

    def __init__(
        self,
        placed: Sequence[Placed],
        rows: Tensor | None = None,
        others: Tensor | None = None,
        size: tuple[int, int] = (0, 0),
        batch: int | None = None,
    ) -> None:
        self._rows, self._others, self._batch = rows, others, batch
        self._placed = placed
        self._size = size
        self._known: dict[tuple[str, tuple[bool, ...]], LayerGroup] = {}
        self._masks: dict[int, list[Tensor | None]] = {}

    def at_layer(self, path: str, heads: int, level: int, acting: Sequence[bool]) -> LayerGroup | None:
        """The group in one layer, None if none of its subjects acts there.

        Args:
            path: The layer.
            heads: Of the layer.
            level: How often the UNet has halved the latents there.
            acting: Which of the subjects act in this step.
        """
        on = tuple(now and one.subjects[0].dials[path].value > 0 for one, now in zip(self._placed, acting, strict=True))
        if not any(on):
            return None
        if (path, on) not in self._known:
            subjects = [
                self._values(one, path, heads, mask)
                for one, mask, now in zip(self._placed, self._masks_of(level), on, strict=True)
                if now
            ]
            self._known[path, on] = LayerGroup(
                self._rows, self._others, tuple(subjects), self._placed[0].subjects[0].mechanism, self._batch
            )
        return self._known[path, on]

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The part of the steps in which each of the subjects acts."""
        return [one.subjects[0].steps for one in self._placed]

    def _values(self, placed: Placed, path: str, heads: int, mask: Tensor | None) -> SubjectValues:
        subjects, first = placed.subjects, placed.subjects[0]
        columns = zip(*(one.projected[path] for one in subjects), strict=True)
        read = [placed.stacked(column) for column in columns]
        if first.mechanism.projection is not None:
            read = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in read]  # (rows, N, H · d) -> (rows, H, N, d)
        *key, value = read
        weights = [one.log_weights[None] for one in subjects if one.log_weights is not None]
        return SubjectValues(
            key[0] if key else None,
            value,
            placed.positions,
            first.dials[path].to(value.device),
            first.alpha,
            placed.stacked(weights) if weights else None,
            mask,
        )

    def _masks_of(self, level: int) -> list[Tensor | None]:
        """Masks of the subjects at a level of the UNet, each (rows or 1, S)."""
        if level not in self._masks:
            sized = [masks_at([one.mask for one in placed.subjects], self._size, level) for placed in self._placed]
            self._masks[level] = share_out(sized, [placed.positions for placed in self._placed])
        return self._masks[level]
