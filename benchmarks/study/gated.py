"""Decoupled attention that acts only where the subject's word is read: a mechanism made to ask why they differ.

    out = softmax(QKᵀ/√d) V + scale · Σ_s* A[q, s*] · softmax(QK'ᵀ/√d) V'

with A = softmax(QKᵀ/√d), per head. All else is that of decoupled attention, so that what the two differ in comes from
the heads and queries that do not read the word.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from diffusers_nested.attention import SubjectValues, nested_values
from diffusers_nested.mechanisms import Mechanism, register_mechanism
from diffusers_nested.mechanisms.base import KeyValueProjection, strengths

NAME = "gated"


def gated_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """The formula above; see ``Mechanism.attend``."""
    out = F.scaled_dot_product_attention(query, key, value, attention_mask)
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    weights = (logits if attention_mask is None else logits + attention_mask).softmax(-1)  # A, (B, H, S, T)
    for subject, amount in zip(subjects, strengths(subjects, value), strict=True):
        read = (weights * subject.positions[:, None, None].to(weights.dtype)).sum(-1, keepdim=True)  # (B, H, S, 1)
        out = out + (amount * read * nested_values(query, subject)).to(out.dtype)
    return out


register_mechanism(Mechanism(name=NAME, attend=gated_attention, projection=KeyValueProjection, scales=(0.5, 1.0, 2.0)))
