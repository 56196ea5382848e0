"""The simple adapter: subject tokens as further words of the prompt (section 5.2 of arXiv 2501.01407).

    out = softmax(Q [K, K̂]ᵀ/√d + [0, log w]) [V, V̂]

where the layer's own projections, LoRA included, give K̂ = f_K(tokens) and V̂ = f_V(tokens). Only the encoder is
trained.

The dial is the weight w of a subject token relative to a word: its logit is raised by log w, which multiplies
exp(logit). 1 is the plain concatenation of the paper, which has no dial; 0 is off. A mask multiplies w query by query;
so do image weights, the largest of which counts as 1. The tokens of several subjects, or of several images, are placed
side by side, so more tokens get more attention.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import SubjectValues, accurate
from .base import Mechanism, share_of_tokens, strengths


def simple_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention over the prompt's tokens and the subjects'; see ``Mechanism.attend``."""
    text = key.new_zeros(1, 1, 1, key.shape[2]) if attention_mask is None else attention_mask.to(query.dtype)
    keys, values, bias = [key], [value], [text]
    for subject, strength in zip(subjects, strengths(subjects, query), strict=True):
        assert subject.key is not None  # a layer's own projections give both
        keys.append(subject.key.expand(len(key), -1, -1, -1))
        values.append(subject.value.expand(len(key), -1, -1, -1))
        weights = _log_weights(subject, strength, query)
        bias.append(weights.expand(*weights.shape[:-1], subject.key.shape[2]))
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in bias))  # only the dimensions that differ
    added = torch.cat([part.expand(*shape, -1) for part in bias], dim=-1)  # (B or 1, H or 1, S or 1, T + N + …)
    return F.scaled_dot_product_attention(query, torch.cat(keys, dim=2), torch.cat(values, dim=2), added)


def _log_weights(subject: SubjectValues, strength: Tensor, query: Tensor) -> Tensor:
    """What is added to the logits of a subject's tokens: (B or 1, 1, S or 1, N or 1)."""
    weights = strength.to(accurate(query))
    share = share_of_tokens(subject, weights)
    if share is not None:
        weights = weights * share[:, None, None, :]
    return weights.log().to(query.dtype)


SIMPLE = Mechanism(name="simple", attend=simple_attention, scales=(0.25, 0.5, 1.0, 2.0, 4.0))
