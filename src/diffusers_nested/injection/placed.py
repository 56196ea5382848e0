"""Subjects on their way to a layer: projected once per call, placed at rows and words, then seen by each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..attention import Doses, SubjectValues
from ..errors import NestedAdapterError
from ..mechanisms import Mechanism
from ..mechanisms.located import watching
from .masks import ip_adapter_masks_at, masks_at, share_out
from .word_maps import GroupMaps

# Which rows of a batch: their numbers, or the first and the one after the last.
Rows = Tensor | tuple[int, int]


class Dial:
    """The scale of one layer.

    Layers get what follows from it as tensors (``Doses``), so a new value needs no new compilation of the UNet.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def set(self, value: float) -> None:
        """Turn the dial, also in the middle of a call."""
        self.value = value


@dataclass(frozen=True)
class Kind:
    """What subjects must have in common for their rows to be computed together.

    Subjects of one kind differ only in their tokens, log-weights and masks.

    Attributes:
        adapter: Name of the adapter.
        mechanism: How the subject enters a layer.
        alpha: Norm of the nested values in units of the word's own.
        dials: Layer path -> scale. Not compared, as they follow from the adapter and the scale.
        num_tokens: N, of all images together.
        scale: The subject's own; None for the adapter's.
        steps: First and last part of the denoising steps in which the subject acts, from 0 to 1.
        is_weighted: Whether the subject has log-weights.
        is_masked: Whether the subject has a mask.
        reads_empty_image: Whether it acts as in IP-Adapter: with an empty image in the rows of negative prompts, and
            with masks that are resized in its way and may overlap.
    """

    adapter: str
    mechanism: Mechanism
    alpha: float | None
    dials: Mapping[str, Dial] = field(compare=False)
    num_tokens: int
    scale: float | None = None
    steps: tuple[float, float] = (0.0, 1.0)
    is_weighted: bool = False
    is_masked: bool = False
    reads_empty_image: bool = False


@dataclass(frozen=True, eq=False)
class ProjectedSubject:
    """A subject whose tokens are projected for every layer.

    Attributes:
        kind: What it shares with the subjects it can be computed together with.
        layers: Layer path -> what the layer reads: (K̆, V̆) or (V̆,), each (1 or rows, N, inner width), or
            (tokens,) for a mechanism without projections.
        log_weights: (1, N), added to the nested logits; None for equal weights.
        mask: Where in the image the subject acts, (h, w) from 0 to 1; None for everywhere.
        empty: The empty image that stands for it in the rows of negative prompts, or why it cannot, which matters only
            if there are such rows; None if these rows stay plain.
    """

    kind: Kind
    layers: Mapping[str, tuple[Tensor, ...]]
    log_weights: Tensor | None = None
    mask: Tensor | None = None
    empty: "ProjectedSubject | NestedAdapterError | None" = None


@dataclass(frozen=True, eq=False)
class PlacedSubject:
    """Subjects at their words in some rows: the same one in every row, or one of the same kind for each.

    Attributes:
        subjects: One for all rows, or one for each.
        positions: (rows, T), 1 at the subject's word.
    """

    subjects: tuple[ProjectedSubject, ...]
    positions: Tensor

    def at_layer(self, path: str, heads: int) -> SubjectValues:
        """The subject as one layer sees it, without its dose and its mask there."""
        kind = self.subjects[0].kind
        read: Sequence[Tensor] = self.subjects[0].layers[path]
        if len(self.subjects) > 1:
            columns = zip(*[subject.layers[path] for subject in self.subjects], strict=True)
            read = [torch.cat(column) for column in columns]
        if kind.mechanism.projection is not None:
            read = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in read]  # (rows, N, H · d) -> (rows, H, N, d)
        *keys, value = read
        return SubjectValues(
            key=keys[0] if keys else None,
            value=value,
            positions=self.positions,
            alpha=kind.alpha,
            log_weights=self._log_weights() if kind.is_weighted else None,
        )

    def mask_at(self, size: tuple[int, int], level: int) -> Tensor | None:
        """The mask at a level of the UNet, (rows or 1, S), given the latents' height and width; None without one."""
        resize = ip_adapter_masks_at if self.subjects[0].kind.reads_empty_image else masks_at
        return resize([subject.mask for subject in self.subjects], size, level)

    def _log_weights(self) -> Tensor:
        return torch.cat([one.log_weights for one in self.subjects if one.log_weights is not None])


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """Rows of the UNet's batch and the subjects that act on them, as seen by one layer.

    Attributes:
        rows: Which they are; None for all rows.
        others: All other rows; None if there are none.
        subjects: What the mechanism takes; without projections, the values are still tokens, (rows, N, D).
        mechanism: How they enter the layer.
        batch: How many rows the UNet was given; None if unknown.
        kept: What the prompt's values are multiplied by in the fast form, (B, 1, T, 1); None for nothing.
    """

    rows: Rows | None
    others: Rows | None
    subjects: tuple[SubjectValues, ...]
    mechanism: Mechanism
    batch: int | None = None
    kept: Tensor | None = None

    @property
    def is_fast(self) -> bool:
        """Whether the mechanism has a fast form in which these subjects can act."""
        fast = self.mechanism.fast
        return fast is not None and all([fast.fits(subject) for subject in self.subjects])


class RowGroup:
    """Rows of the UNet's batch whose subjects are of the same kinds.

    Args:
        placed: Their subjects.
        rows: Which they are; None for all rows.
        others: All other rows.
        size: Height and width of the UNet's latents; needed for masks only.
        batch: How many rows the UNet is given; needed if rows are numbered.
        maps: Of the subjects' words; None for mechanisms that do not locate them.

    Attributes:
        kinds: Of the subjects.
    """

    def __init__(
        self,
        placed: Sequence[PlacedSubject],
        rows: Rows | None = None,
        others: Rows | None = None,
        size: tuple[int, int] = (0, 0),
        batch: int | None = None,
        maps: GroupMaps | None = None,
    ) -> None:
        self._rows, self._others, self._batch, self._maps = rows, others, batch, maps
        self._placed = placed
        self._size = size
        self.kinds = [one.subjects[0].kind for one in placed]
        self._is_masked = any([kind.is_masked for kind in self.kinds])
        self._watching = [self._watched_by(kind) for kind in self.kinds]
        # per layer, the last one and what it was made for; and the subjects without their doses
        self._known: dict[str, tuple[tuple[object, ...], LayerGroup]] = {}
        self._read: dict[tuple[str, int], SubjectValues] = {}
        self._masks: dict[int, list[Tensor | None]] = {}

    def at_layer(self, path: str, heads: int, level: int, acting: Sequence[bool]) -> LayerGroup | None:
        """The group as seen by one layer; None if none of its subjects acts there.

        Args:
            path: The layer.
            heads: Number of heads of the layer.
            level: How often the UNet has halved the latents there.
            acting: Which of the subjects act in this step.
        """
        scales = tuple([kind.dials[path].value * now for kind, now in zip(self.kinds, acting, strict=True)])
        if not any(scales):
            return None
        wanted = (scales, *[path in paths for paths in self._watching])
        if path not in self._known or self._known[path][0] != wanted:
            self._known[path] = wanted, self._made(path, heads, level, scales)
        return self._known[path][1]

    def _made(self, path: str, heads: int, level: int, scales: Sequence[float]) -> LayerGroup:
        """The group as seen by one layer, with these scales; subjects of scale 0 are left out."""
        masks = self._masks_at(level) if self._is_masked else [None] * len(scales)
        seen: Sequence[Tensor | None] = [None] * len(scales)
        if self._maps is not None:
            seen, masks = self._maps.at(level, masks)
            seen = [one if path in paths else None for one, paths in zip(seen, self._watching, strict=True)]
        subjects = [
            replace(self._values(path, heads, slot), scale=scale, mask=masks[slot], seen=seen[slot])
            for slot, scale in enumerate(scales)
            if scale > 0
        ]
        doses = Doses.of(subjects, _width(subjects[0].value), subjects[0].value.dtype)
        subjects = [replace(subject, doses=doses) for subject in subjects]
        mechanism = self.kinds[0].mechanism
        kept = (
            self._of_all_rows(doses.kept.to(subjects[0].value.dtype))
            if mechanism.fast is not None and mechanism.fast.lowers
            else None
        )
        return LayerGroup(self._rows, self._others, tuple(subjects), mechanism, self._batch, kept)

    def _values(self, path: str, heads: int, slot: int) -> SubjectValues:
        if (path, slot) not in self._read:
            self._read[path, slot] = self._placed[slot].at_layer(path, heads)
        return self._read[path, slot]

    def _of_all_rows(self, kept: Tensor) -> Tensor:
        """What is kept in this group's rows, (rows, 1, T, 1), and 1 in all others: (B, 1, T, 1)."""
        if self._rows is None or self._batch is None:
            return kept
        whole = kept.new_ones(self._batch, *kept.shape[1:])
        whole[slice(*self._rows) if isinstance(self._rows, tuple) else self._rows] = kept
        return whole

    def locate(self) -> None:
        """Before a call of the UNet: let the subjects act where their words have been seen."""
        if self._maps is not None:
            self._watching = [self._watched_by(kind) for kind in self.kinds]  # dials may have been turned
            self._maps.update()

    def _watched_by(self, kind: Kind) -> set[str]:
        """The layers that watch the word of such a subject."""
        return set() if self._maps is None else watching(p for p, dial in kind.dials.items() if dial.value > 0)

    def _masks_at(self, level: int) -> list[Tensor | None]:
        """Masks of the subjects at a level of the UNet, each (rows or 1, S)."""
        if level not in self._masks:
            sized = [placed.mask_at(self._size, level) for placed in self._placed]
            ours = [None if kind.reads_empty_image else mask for kind, mask in zip(self.kinds, sized, strict=True)]
            shared = share_out(ours, [placed.positions for placed in self._placed])
            self._masks[level] = [mask if own is None else own for mask, own in zip(sized, shared, strict=True)]
        return self._masks[level]


def _width(values: Tensor) -> int:
    """H d of the values that a layer reads, (rows, H, N, d); of tokens (rows, N, D), D."""
    return values.shape[-1] * (values.shape[1] if values.ndim == 4 else 1)
