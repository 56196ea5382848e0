"""Located attention: IP-Adapter's decoupled term, only where the subject's word is.

    out = softmax(QKᵀ/√d) V + scale · m_q · softmax(QK'ᵀ/√d) V'

with K' and V' of decoupled attention, whose trained weights it takes as they are. m_q, from 0 to 1, says how much of
the query's place belongs to the word. It follows from the word's own attention, as in DAAM (arXiv 2210.04885) and in
the local blend of Prompt-to-Prompt (arXiv 2208.01626): A[q, s*] added up over heads, layers and steps; see ``where``.
The map of a single layer or head is mostly not where the subject is drawn.

A layer only adds what it sees. m is computed once per call of the UNet, from what all layers have seen in the calls
before it, and reaches the layers as the subject's mask.

The dial is IP-Adapter's scale, and a mask multiplies it. Rows without the subject's word do not change.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import SubjectValues, accurate
from .base import KeyValueProjection, Mechanism
from .decoupled import decoupled_attention

# All of these were chosen on pictures whose subjects' places are known; see recipes/miniature/located for the numbers.
# m is one half where the word gets this much more attention than on the mean over the picture, in standard deviations
# of its map, and rises from 0 to 1 around it. The same value is near the best for words that get 1 % of all attention
# and for those that get 17 %, which no threshold in units of the maximum is; a rise half as wide gives the same IoU.
MIDDLE, WIDTH = 0.1, 0.6
# A binomial filter: IoU .70 instead of .68 without it; as much with one of five values.
SMOOTHING = (0.25, 0.5, 0.25)
FLAT = 0.05  # a map that varies by less than this part of its mean says little; the flattest one measured had .26
# While nothing is known. With four steps in all, another subject changes by .20; by .39 with 1 here, and by .08 with 0,
# which costs identity (.75 instead of .78) and would be no subject at all in a single step.
UNKNOWN = 0.5
# Layers on the UNet's way up tell best: IoU .48 instead of .41 where the word gets 1 % of all attention, and the same
# within .01 elsewhere.
WATCHING = "up_blocks."


def located_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Decoupled attention that also adds to ``seen`` what the words get; see ``Mechanism.attend``."""
    if any([subject.seen is not None for subject in subjects]):
        weights = _of_all_heads(query.detach(), key.detach(), attention_mask)
        for subject in subjects:
            if subject.seen is not None:
                # (B, T, 1), so that (B, S, T) @ (B, T, 1) is added to (B, S, 1)
                word = subject.positions.to(weights.dtype).expand(len(weights), -1)[..., None]
                subject.seen[..., None].baddbmm_(weights, word)
    return decoupled_attention(query, key, value, subjects, attention_mask)


def _of_all_heads(query: Tensor, key: Tensor, attention_mask: Tensor | None) -> Tensor:
    """A, added up over the heads: (B, S, T).

    The logits are of the layer's own type. What rounding does to a weight is nothing to a sum over heads and layers.
    """
    logits = query @ (key * query.shape[-1] ** -0.5).transpose(-1, -2)
    if attention_mask is not None:
        logits = logits + attention_mask
    return logits.softmax(dim=-1, dtype=accurate(query)).sum(1)  # (B, H, S, T) -> (B, S, T)


def where(seen: Tensor) -> Tensor:
    """Where words are, m.

    Args:
        seen: The attention that each word has got, added up over heads, layers and steps on one grid,
            (subjects, rows, h, w). Only contrasts within a map count. A map of nothing but zeros is not known yet.

    Returns:
        The same shape, from 0 to 1. Where several words stand out, the one that stands out most has the place.
    """
    smooth = _smoothed(seen)
    spread, mean = torch.std_mean(smooth, dim=(-2, -1), keepdim=True)
    above = (smooth - mean) / torch.maximum(spread, FLAT * mean).clamp(min=1e-12)
    if len(seen) > 1:
        above = torch.minimum(above, above - _rival(above) + MIDDLE)
    here = ((above - MIDDLE) / WIDTH + 0.5).clamp(0, 1)
    return torch.where(mean > 0, here, UNKNOWN)


def watching(acting: Iterable[str]) -> set[str]:
    """The paths of the layers that watch the words, among those that act: all, if none is on the way up."""
    paths = set(acting)
    return {path for path in paths if path.startswith(WATCHING)} or paths


def _smoothed(maps: Tensor) -> Tensor:
    """Maps with every value mixed with those around it, (…, h, w)."""
    kernel = torch.tensor(SMOOTHING, dtype=maps.dtype, device=maps.device)
    wide = F.pad(maps.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel.view(1, 1, 1, 3)), kernel.view(1, 1, 3, 1))[:, 0].unflatten(0, maps.shape[:2])


def _rival(above: Tensor) -> Tensor:
    """The largest value of the other subjects, for each subject: (subjects, rows, h, w)."""
    others = [torch.cat([above[:i], above[i + 1 :]]).amax(0) for i in range(len(above))]
    return torch.stack(others)


LOCATED = Mechanism(
    name="located",
    attend=located_attention,
    projection=KeyValueProjection,
    scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    locates=True,
    trained_as="decoupled",
)
