"""Global V: one value for the word, the same for every query (section 5.2 of arXiv 2501.01407).

    V[s*] := W · mean(tokens)

with W trained for every layer. It is nested attention with equal inner weights. Dial, masks and norm work as in nested
attention: from 0 to 1 the word's own value and the subject's are blended, 1 is the paper's layer, above 1 it is λ; and
‖V[s*]‖ is set to α times that of the word, if α is given. (The paper sets the norm of v*, which this value stands for.)

With several images, the mean runs over all their tokens, weighted by image.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor

from ..attention import SubjectValues, Term, accurate, attention_with_values, terms_with_values
from .base import FastForm, Mechanism, ValueProjection, is_blended, raised_weights


def global_value_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention in which some prompt tokens have another value; see ``Mechanism.attend``."""
    return attention_with_values(query, key, value, subjects, attention_mask, _mean_value)


def global_value_terms(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Iterable[Term]:
    """What the subjects add to attention over the prompt; see ``FastForm``."""
    return terms_with_values(query, key, value, subjects, attention_mask, _mean_value)


def _mean_value(query: Tensor, subject: SubjectValues) -> Tensor:
    """W · mean(tokens), which is the mean of W · tokens: (B or 1, H, 1, d)."""
    if subject.log_weights is None:
        return subject.value.mean(dim=2, keepdim=True)
    weights = subject.log_weights.to(accurate(subject.value)).softmax(dim=-1)
    return (
        (weights.reshape(-1, 1, weights.shape[-1], 1) * subject.value).sum(dim=2, keepdim=True).to(subject.value.dtype)
    )


GLOBAL_VALUE = Mechanism(
    name="global_value",
    attend=global_value_attention,
    projection=ValueProjection,
    has_norm=True,
    scales=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    fast=FastForm(global_value_terms, lowers=True, fits=is_blended),
    weights=raised_weights,
)
