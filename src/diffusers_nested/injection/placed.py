"""Subjects on their way to a layer: projected once per call, then placed at rows and words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention import SubjectValues
from ..errors import NestedAdapterError
from ..mechanisms import Mechanism
from .masks import ip_adapter_masks_at, masks_at
from .storage import Read, WaitingValues, read_or_wait


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

    def at_layer(self, path: str) -> SubjectValues | WaitingValues:
        """The subject as one layer sees it, without its scale and its mask there."""
        kind = self.subjects[0].kind
        subject = SubjectValues(
            key=None,
            value=self.positions.new_empty(0),  # until it is read
            positions=self.positions,
            alpha=kind.alpha,
            log_weights=self._log_weights() if kind.is_weighted else None,
        )
        return read_or_wait(subject, [one.layers[path] for one in self.subjects])

    def mask_at(self, size: tuple[int, int], level: int) -> Tensor | None:
        """The mask at a level of the UNet, (rows or 1, S), given the latents' height and width; None without one."""
        resize = ip_adapter_masks_at if self.subjects[0].kind.reads_empty_image else masks_at
        return resize([subject.mask for subject in self.subjects], size, level)

    def _log_weights(self) -> Tensor:
        return torch.cat([one.log_weights for one in self.subjects if one.log_weights is not None])
