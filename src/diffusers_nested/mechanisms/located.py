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

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import SubjectValues, Term, accurate
from .base import FastForm, KeyValueProjection, Mechanism
from .decoupled import decoupled_attention, decoupled_terms

# All of these were chosen on pictures whose subjects' places are known; see recipes/miniature/located for the numbers.
# The values of a map fall into two classes (Otsu's method). m is one half this part of the way from the mean of the
# lower class to that of the higher one, and rises from 0 to 1 around it. A threshold in standard deviations is as good
# for subjects that fill a quarter of the picture or more, and takes in much of the background of smaller ones.
MIDDLE, WIDTH = 0.4, 0.5
# A binomial filter; one of five values does the same.
SMOOTHING = (0.25, 0.5, 0.25)
FLAT = 0.1  # classes that differ by less than this part of the map's mean say little
# While nothing is known. With four steps in all, .20 of another subject's traits changed; .39 with 1 here, and .08 with
# 0, which costs identity (.75 instead of .78) and would be no subject at all in a single step. (Measured with a
# threshold in standard deviations.)
UNKNOWN = 0.5
# Layers on the UNet's way up tell best: IoU .42 instead of .34 where the word gets 1 % of all attention, and the same
# within .02 elsewhere.
WATCHING = "up_blocks."


def located_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Decoupled attention that also adds to ``seen`` what the words get; see ``Mechanism.attend``."""
    _see(query, key, subjects, attention_mask)
    return decoupled_attention(query, key, value, subjects, attention_mask)


def located_terms(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Iterator[Term]:
    """Terms of decoupled attention; also adds to ``seen`` what the words get; see ``FastForm``."""
    _see(query, key, subjects, attention_mask)
    return decoupled_terms(query, key, value, subjects, attention_mask)


def _see(query: Tensor, key: Tensor, subjects: Sequence[SubjectValues], attention_mask: Tensor | None) -> None:
    """Add to ``seen`` what the words get in this layer."""
    if any([subject.seen is not None for subject in subjects]):
        weights = _of_all_heads(query.detach(), key.detach(), attention_mask)
        for subject in subjects:
            if subject.seen is not None:
                # (B, T, 1), so that (B, S, T) @ (B, T, 1) is added to (B, S, 1)
                word = subject.positions.to(weights.dtype).expand(len(weights), -1)[..., None]
                subject.seen[..., None].baddbmm_(weights, word)


def _of_all_heads(query: Tensor, key: Tensor, attention_mask: Tensor | None) -> Tensor:
    """A, added up over the heads: (B, S, T).

    The logits are of the layer's own type. What rounding does to a weight is nothing to a sum over heads and layers.
    """
    logits = query @ (key * query.shape[-1] ** -0.5).transpose(-1, -2)
    if attention_mask is not None:
        logits = logits + attention_mask
    return logits.softmax(dim=-1, dtype=accurate(query)).sum(1)  # (B, H, S, T) -> (B, S, T)


def where(seen: Tensor, words: Tensor) -> Tensor:
    """Where words are, m.

    Args:
        seen: The attention that each word has got, added up over heads, layers and steps on one grid,
            (subjects, rows, h, w). Only contrasts within a map count. A map of nothing but zeros is not known yet, and
            no rival of others: its subject is off or has not begun.
        words: Numbers of the words, (subjects, rows). Subjects at one word, which masks keep apart, are no rivals.

    Returns:
        The same shape, from 0 to 1. Where several words stand out, the one that stands out most has the place.
    """
    if seen.shape[-2:].numel() == 1:  # the whole picture is one place
        return torch.ones_like(seen)
    above, is_known = standing_out(_smoothed(seen)), seen.mean((-2, -1), keepdim=True) > 0
    if len(seen) > 1:
        rivals = above.masked_fill(~is_known, -torch.inf)
        above = torch.minimum(above, above - _rival(rivals, words) + MIDDLE)
    here = ((above - MIDDLE) / WIDTH + 0.5).clamp(0, 1)
    return torch.where(is_known, here, UNKNOWN)


def standing_out(maps: Tensor) -> Tensor:
    """Maps (…, h, w) in other units: 0 is the mean of the lower class of values, 1 that of the higher one."""
    low, high = (mean[..., None] for mean in _class_means(maps.flatten(-2)))  # (…, 1) -> (…, 1, 1)
    least = (FLAT * maps.mean((-2, -1), keepdim=True)).clamp(min=1e-12)
    return (maps - (low + high) / 2) / torch.maximum(high - low, least) + 0.5


def _class_means(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the lower and of the higher values (…, S), split where the variance between them is largest.

    That is Otsu's method (IEEE Transactions on Systems, Man, and Cybernetics 9, 1979); (…, 1) each.
    """
    sums, count = values.sort(dim=-1).values.cumsum(-1), values.shape[-1]
    below = torch.arange(1, count, device=values.device, dtype=values.dtype)  # (S − 1,), how many are lower
    low, high = sums[..., :-1] / below, (sums[..., -1:] - sums[..., :-1]) / (count - below)
    best = (below * (count - below) * (high - low).square()).argmax(-1, keepdim=True)
    return low.gather(-1, best), high.gather(-1, best)


def watching(acting: Iterable[str]) -> set[str]:
    """The paths of the layers that watch the words, among those that act: all, if none is on the way up."""
    paths = set(acting)
    return {path for path in paths if path.startswith(WATCHING)} or paths


def _smoothed(maps: Tensor) -> Tensor:
    """Maps with every value mixed with those around it, (…, h, w)."""
    kernel = torch.tensor(SMOOTHING, dtype=maps.dtype, device=maps.device)
    wide = F.pad(maps.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel.view(1, 1, 1, 3)), kernel.view(1, 1, 3, 1))[:, 0].unflatten(0, maps.shape[:2])


def _rival(above: Tensor, words: Tensor) -> Tensor:
    """The largest value of the other words, for each subject: (subjects, rows, h, w)."""
    same = (words[:, None] == words)[..., None, None]  # (subjects, subjects, rows, 1, 1)
    return above.masked_fill(same, -torch.inf).amax(1)


LOCATED = Mechanism(
    name="located",
    attend=located_attention,
    projection=KeyValueProjection,
    scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    locates=True,
    fast=FastForm(located_terms),
    trained_as="decoupled",
)
