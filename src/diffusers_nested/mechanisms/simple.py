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
from .base import Mechanism, Weights, share_of_tokens, strengths


def simple_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention over the prompt's tokens and the subjects'; see ``Mechanism.attend``."""
    added = _added(query, key, subjects, attention_mask)
    return F.scaled_dot_product_attention(
        query, _beside(key, [one.key for one in subjects]), _beside(value, [one.value for one in subjects]), added
    )


def simple_weights(
    query: Tensor, key: Tensor, subjects: Sequence[SubjectValues], attention_mask: Tensor | None = None
) -> Weights:
    """What is left for the prompt's tokens beside the subjects'; see ``Mechanism.weights``."""
    keys = _beside(key, [one.key for one in subjects]).to(accurate(query))
    logits = query.to(keys.dtype) @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
    weights = (logits + _added(query, key, subjects, attention_mask)).softmax(-1)
    of_prompt, *own = weights.split([key.shape[2], *[one.value.shape[2] for one in subjects]], dim=-1)
    return of_prompt, [one.sum(-1, keepdim=True) for one in own]


def _beside(text: Tensor, others: Sequence[Tensor | None]) -> Tensor:
    """Keys or values of the prompt (B, H, T, d) and of all subjects: (B, H, T + N + …, d)."""
    # a layer's own projections give both
    return torch.cat([text, *[one.expand(len(text), -1, -1, -1) for one in others if one is not None]], dim=2)


def _added(query: Tensor, key: Tensor, subjects: Sequence[SubjectValues], attention_mask: Tensor | None) -> Tensor:
    """What is added to the logits of all tokens, (B or 1, H or 1, S or 1, T + N + …)."""
    text = key.new_zeros(1, 1, 1, key.shape[2]) if attention_mask is None else attention_mask.to(query.dtype)
    bias = [text]
    for subject, strength in zip(subjects, strengths(subjects, query), strict=True):
        weights = _log_weights(subject, strength, query)
        bias.append(weights.expand(*weights.shape[:-1], subject.value.shape[2]))
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in bias))  # only the dimensions that differ
    return torch.cat([part.expand(*shape, -1) for part in bias], dim=-1)


def _log_weights(subject: SubjectValues, strength: Tensor, query: Tensor) -> Tensor:
    """What is added to the logits of a subject's tokens: (B or 1, 1, S or 1, N or 1)."""
    weights = strength.to(accurate(query))
    share = share_of_tokens(subject, weights)
    if share is not None:
        weights = weights * share[:, None, None, :]
    return weights.log().to(query.dtype)


SIMPLE = Mechanism(
    name="simple",
    attend=simple_attention,
    scales=(0.25, 0.5, 1.0, 2.0, 4.0),
    weights=simple_weights,
)
