"""Subjects' masks, resized from the image to the queries of a layer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.image_processor import IPAdapterMaskProcessor
from torch import Tensor


def size_at(size: tuple[int, int], level: int) -> tuple[int, int]:
    """Height and width of latents that the UNet has halved ``level`` times, odd sizes rounded up."""
    height, width = size
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def masks_at(masks: Sequence[Tensor | None], size: tuple[int, int], level: int) -> Tensor | None:
    """Resize masks (h, w) of the image for a layer: (masks, S), the mean over the area that each query covers.

    Args:
        masks: Either all None, or none of them.
        size: Height and width of the latents.
        level: How often the UNet has halved them.
    """
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    # (h, w) -> those of the level -> (S,)
    return torch.stack([F.adaptive_avg_pool2d(mask[None], size_at(size, level)).flatten() for mask in given])


def ip_adapter_masks_at(masks: Sequence[Tensor | None], size: tuple[int, int], level: int) -> Tensor | None:
    """Like ``masks_at``, but resized as IP-Adapter does: bicubically, to a size that it infers from the mask's shape.

    Masks of another shape than the image are stretched first.
    """
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    height, width = size_at(size, level)
    stretched = [_stretched(mask, size) for mask in given]
    # (1, h, w) -> (1, S, 1) -> (S,)
    return torch.stack([IPAdapterMaskProcessor.downsample(x[None], 1, height * width, 1).flatten() for x in stretched])


def _stretched(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask (h, w) with the proportions of the latents, and about as fine as it was."""
    (h, w), (height, width) = mask.shape, size
    if h * width == w * height:
        return mask
    times = max(1, h // height, w // width)
    return F.interpolate(mask[None, None], (times * height, times * width), mode="bicubic")[0, 0]


def share_out(masks: Sequence[Tensor | None], positions: Sequence[Tensor]) -> list[Tensor | None]:
    """Scale overlapping masks (rows or 1, S) of one word down, so that they sum to 1 at most.

    Args:
        masks: One per subject.
        positions: Where each subject's words are, (rows, T).
    """
    shared: list[Tensor | None] = []
    for mask, own in zip(masks, positions, strict=True):
        if mask is None:
            shared.append(None)
            continue
        same_word = [
            # (rows, 1): whether the other subject holds a word of this one
            (own * other).amax(1, keepdim=True).to(theirs.dtype) * theirs
            for theirs, other in zip(masks, positions, strict=True)
            if theirs is not None
        ]
        shared.append(mask / torch.stack([m.expand(len(own), -1) for m in same_word]).sum(0).clamp(min=1))
    return shared
