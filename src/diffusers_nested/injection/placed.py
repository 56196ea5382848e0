"""Subjects on their way to a layer: projected once per call, placed at rows and words, then seen by each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention import SubjectValues
from ..errors import NestedAdapterError
from ..mechanisms import Mechanism
from ..mechanisms.located import watching
from .masks import ip_adapter_masks_at, masks_at, share_out
from .storage import Read, WaitingValues, read_or_wait
from .word_maps import GroupMaps


class Dial:
    """The scale of one layer, as a 0-d tensor that is filled in place.

    A compiled UNet reads the tensor, so a new value needs no new compilation.
    """

    def __init__(self, value: float) -> None:
        self.value = value
        with torch.inference_mode(False):  # a tensor made in inference mode could not be filled outside of it
            self.tensor: Tensor = torch.tensor(value, dtype=torch.float32)

    def set(self, value: float) -> None:
        """Turn the dial, also in the middle of a call."""
        self.value = value
        self.tensor.fill_(value)

    def to(self, device: torch.device) -> Tensor:
        """The tensor, moved to the device for good."""
        if self.tensor.device != device:
            with torch.inference_mode(False):
                self.tensor = self.tensor.to(device)
        return self.tensor


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
        layers: Layer path -> what the layer reads: (K̆, V̆) or (V̆,), each (1 or rows, H, N, d), or
            (tokens,), (1, N, token_dim), for a mechanism without projections.
        log_weights: (1, N), added to the nested logits; None for equal weights.
        mask: Where in the image the subject acts, (h, w) from 0 to 1; None for everywhere.
        empty: The empty image that stands for it in the rows of negative prompts, or why it cannot, which matters only
            if there are such rows; None if these rows stay plain.
    """

    kind: Kind
    layers: Mapping[str, Read]
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

    def at_layer(self, path: str, mask: Tensor | None, seen: Tensor | None) -> SubjectValues | WaitingValues:
        """The subject as one layer sees it, given its mask there, (rows or 1, S), and what is seen of its word."""
        kind = self.subjects[0].kind
        subject = SubjectValues(
            key=None,
            value=self.positions.new_empty(0),  # until it is read
            positions=self.positions,
            scale=kind.dials[path].to(self.positions.device),
            alpha=kind.alpha,
            log_weights=self._log_weights() if kind.is_weighted else None,
            mask=mask,
            seen=seen,
        )
        return read_or_wait(subject, [one.layers[path] for one in self.subjects])

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
        rows: Their numbers; None for all rows.
        others: The numbers of all other rows; None if there are none.
        subjects: What the mechanism takes, or will take once its keys and values are loaded; without projections, the
            values are still tokens, (rows, N, D).
        mechanism: How they enter the layer.
        batch: How many rows the UNet was given; None if unknown.
    """

    rows: Tensor | None
    others: Tensor | None
    subjects: tuple[SubjectValues | WaitingValues, ...]
    mechanism: Mechanism
    batch: int | None = None


class RowGroup:
    """Rows of the UNet's batch whose subjects are of the same kinds.

    Args:
        placed: Their subjects.
        rows: Their numbers; None for all rows.
        others: The numbers of all other rows.
        size: Height and width of the UNet's latents; needed for masks only.
        batch: How many rows the UNet is given; needed if rows are numbered.
        maps: Of the subjects' words; None for mechanisms that do not locate them.

    Attributes:
        kinds: Of the subjects.
    """

    def __init__(
        self,
        placed: Sequence[PlacedSubject],
        rows: Tensor | None = None,
        others: Tensor | None = None,
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
        self._known: dict[tuple[str, tuple[bool, ...], tuple[bool, ...]], LayerGroup] = {}
        self._masks: dict[int, list[Tensor | None]] = {}

    def at_layer(self, path: str, level: int, acting: Sequence[bool]) -> LayerGroup | None:
        """The group as seen by one layer; None if none of its subjects acts there.

        Args:
            path: The layer.
            level: How often the UNet has halved the latents there.
            acting: Which of the subjects act in this step.
        """
        on = tuple([now and kind.dials[path].value > 0 for kind, now in zip(self.kinds, acting, strict=True)])
        if not any(on):
            return None
        watches = tuple([path in paths for paths in self._watching])
        if (path, on, watches) not in self._known:
            masks = self._masks_at(level) if self._is_masked else [None] * len(on)
            seen: Sequence[Tensor | None] = [None] * len(on)
            if self._maps is not None:
                seen, masks = self._maps.at(level, masks)
                seen = [one if watched else None for one, watched in zip(seen, watches, strict=True)]
            parts = zip(self._placed, masks, seen, on, strict=True)
            subjects = [one.at_layer(path, mask, map_) for one, mask, map_, acts in parts if acts]
            self._known[path, on, watches] = LayerGroup(
                self._rows, self._others, tuple(subjects), self.kinds[0].mechanism, self._batch
            )
        return self._known[path, on, watches]

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
