"""Groups of rows in which subjects of the same kinds act, as each layer sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..attention import Doses, SubjectValues
from ..mechanisms import Mechanism
from ..mechanisms.located import watching
from .masks import share_out
from .placed import Kind, PlacedSubject
from .storage import WaitingValues, bare, changed, size_of
from .word_maps import GroupMaps

# Which rows of a batch: their numbers, or the first and the one after the last.
Rows = Tensor | tuple[int, int]


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """Rows of the UNet's batch and the subjects that act on them, as seen by one layer.

    Attributes:
        rows: Which they are; None for all rows.
        others: All other rows; None if there are none.
        subjects: What the mechanism takes, or will take once its keys and values are loaded; without projections, the
            values are still tokens, (rows, N, D).
        mechanism: How they enter the layer.
        batch: How many rows the UNet was given; None if unknown.
        is_fast: Whether the mechanism has a fast form in which these subjects can act.
        kept: What the prompt's values are multiplied by in the fast form, (B, 1, T, 1); None for nothing.
        slots: Which of a prompt's subjects act, by their numbers.
    """

    rows: Rows | None
    others: Rows | None
    subjects: tuple[SubjectValues | WaitingValues, ...]
    mechanism: Mechanism
    batch: int | None = None
    is_fast: bool = False
    kept: Tensor | None = None
    slots: tuple[int, ...] = ()


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
        self._read: dict[tuple[str, int], SubjectValues | WaitingValues] = {}
        self._masks: dict[int, list[Tensor | None]] = {}

    def at_layer(self, path: str, level: int, acting: Sequence[bool]) -> LayerGroup | None:
        """The group as seen by one layer; None if none of its subjects acts there.

        Args:
            path: The layer.
            level: How often the UNet has halved the latents there.
            acting: Which of the subjects act in this step.
        """
        scales = tuple([kind.dials[path].value * now for kind, now in zip(self.kinds, acting, strict=True)])
        if not any(scales):
            return None
        wanted = (scales, *[path in paths for paths in self._watching])
        if path not in self._known or self._known[path][0] != wanted:
            self._known[path] = wanted, self._made(path, level, scales)
        return self._known[path][1]

    def _made(self, path: str, level: int, scales: Sequence[float]) -> LayerGroup:
        """The group as seen by one layer, with these scales; subjects of scale 0 are left out."""
        masks = self._masks_at(level) if self._is_masked else [None] * len(scales)
        seen: Sequence[Tensor | None] = [None] * len(scales)
        if self._maps is not None:
            seen, masks = self._maps.at(level, masks)
            seen = [one if path in paths else None for one, paths in zip(seen, self._watching, strict=True)]
        slots = [slot for slot, scale in enumerate(scales) if scale > 0]
        subjects = [
            changed(self._values(path, slot), scale=scales[slot], mask=masks[slot], seen=seen[slot]) for slot in slots
        ]
        size, dtype = size_of(self._placed[slots[0]].subjects[0].layers[path])
        doses = Doses.of([bare(subject) for subject in subjects], size, dtype)
        mechanism, fast = self.kinds[0].mechanism, self.kinds[0].mechanism.fast
        return LayerGroup(
            self._rows,
            self._others,
            tuple([changed(subject, doses=doses) for subject in subjects]),
            mechanism,
            self._batch,
            is_fast=fast is not None and all([fast.fits(bare(subject), doses) for subject in subjects]),
            kept=self._of_all_rows(doses.kept.to(dtype)) if fast is not None and fast.lowers else None,
            slots=tuple(slots),
        )

    def _values(self, path: str, slot: int) -> SubjectValues | WaitingValues:
        if (path, slot) not in self._read:
            self._read[path, slot] = self._placed[slot].at_layer(path)
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
