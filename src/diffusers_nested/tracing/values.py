"""The values v*_q that queries read at a subject's word, as a picture (Figure 4 of arXiv 2501.01407)."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import NestedAdapterError
from .asking import check_picture, check_step, layers_of, mean_of, nothing_read, subject_of
from .record import CallRecord

_ENDS = (0.02, 0.98)  # quantiles that are shown as black and as full colour


@dataclass(frozen=True, eq=False)
class ValueMap:
    """The values that the queries of a layer read at a subject's word.

    Attributes:
        word: The subject's word.
        layer: The layer's path.
        values: (h, w, C), float32 on the CPU; C is the width of all heads or of one.
    """

    word: str
    layer: str
    values: Tensor

    def image(self, side: int = 256) -> Image.Image:
        """The three directions in which the values differ most, as red, green and blue.

        Args:
            side: The longer side of the image in pixels.
        """
        height, width = self.values.shape[:2]
        colours = (principal(self.values.flatten(0, 1)) * 255).round().to(torch.uint8)
        small = Image.fromarray(np.asarray(colours.reshape(height, width, 3)))
        scale = side / max(height, width)
        return small.resize((round(width * scale), round(height * scale)), Image.Resampling.NEAREST)


def principal(values: Tensor) -> Tensor:
    """The first three principal components of values (S, C), each from 0 to 1: (S, 3); grey where nothing differs."""
    centred = values - values.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)  # (min(S, C), C)
    parts = centred @ directions[:3].T
    parts = torch.cat([parts, parts.new_zeros(len(parts), 3 - parts.shape[1])], dim=1)
    # a direction and its opposite are the same: the larger end is the bright one
    parts = parts * torch.where(parts.amax(0) < -parts.amin(0), -1.0, 1.0)
    low, high = (torch.quantile(parts, end, dim=0) for end in _ENDS)
    flat = high - low < 1e-6 * values.norm(dim=1).mean().clamp(min=1e-12)
    return torch.where(flat, 0.5, ((parts - low) / (high - low).clamp(min=1e-12)).clamp(0, 1))


def value_map(
    record: CallRecord, layer: str | None, step: int | None, subject: str | int | None, picture: int, head: int | None
) -> ValueMap:
    """See ``Trace.values``."""
    check_picture(record, picture)
    check_step(record, step)
    slot, traced = subject_of(record, subject, picture)
    path = _one_of(record, layers_of(record, layer), layer)
    values = mean_of(record, "values", path, picture, slot, step)
    if values is None:
        raise nothing_read(record, traced, "values of its own")
    if head is not None:
        values = _of_head(values, head, record.heads[path])
    return ValueMap(traced.subject.token, path, values.reshape(*record.sizes[path], -1))


def _one_of(record: CallRecord, paths: list[str], layer: str | None) -> str:
    if layer is None:
        finest = max(height * width for height, width in record.sizes.values())
        return [path for path in paths if record.sizes[path][0] * record.sizes[path][1] == finest][-1]
    if len(paths) > 1 and layer not in paths:
        raise NestedAdapterError(
            f"{len(paths)} layers lie in {layer!r}, and their values cannot be compared. Give one of "
            f"{', '.join(paths[:4])}{', …' * (len(paths) > 4)}."
        )
    return layer if layer in paths else paths[0]


def _of_head(values: Tensor, head: int, heads: int) -> Tensor:
    """One head of (S, H · d)."""
    if not isinstance(head, int) or not 0 <= head < heads:
        raise NestedAdapterError(f"There is no head {head!r}: the layer has {heads}, counted from 0.")
    return values.unflatten(-1, (heads, -1))[:, head]
