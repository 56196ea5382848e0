"""Decoupled cross-attention, that of IP-Adapter (arXiv 2308.06721; section 5.2 of arXiv 2501.01407).

    out = softmax(QKᵀ/√d) V + scale · softmax(QK'ᵀ/√d) V'

with K' = W_K' · tokens and V' = W_V' · tokens, trained for every layer. The prompt's attention does not change; the
subject is added at every query, wherever its word is. Several subjects add one term each.

The dial is the scale of the formula; a mask multiplies it. Rows without the subject's word, such as the
unconditional ones, do not change. Imported IP-Adapters have learned otherwise: in the rows of a negative prompt, the
tokens of an empty image take the place of the subject's, so that the layer is exactly IP-Adapter's.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import SubjectValues, Term, nested_values
from .base import FastForm, KeyValueProjection, Mechanism, strengths


def decoupled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention over the prompt, plus one attention per subject; see ``Mechanism.attend``."""
    out = F.scaled_dot_product_attention(query, key, value, attention_mask)
    for values, amount, _ in decoupled_terms(query, key, value, subjects):
        out = torch.addcmul(out, values.to(out.dtype), amount.to(out.dtype))
    return out


def decoupled_terms(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Iterator[Term]:
    """The attention over each subject's tokens, and its strength; see ``FastForm``."""
    for subject, amount in zip(subjects, strengths(subjects, value), strict=True):
        yield Term(nested_values(query, subject), amount)


DECOUPLED = Mechanism(
    name="decoupled",
    attend=decoupled_attention,
    projection=KeyValueProjection,
    reads_empty_image=True,
    scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    fast=FastForm(decoupled_terms),
)
