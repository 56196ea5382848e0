"""The fast form of nested attention: all attention is fused. For scales up to 1 without masks, if nothing is learnt."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .inner import nested_values
from .norms import length, norm, root
from .values import SubjectValues, doses_of


class Term(NamedTuple):
    """A product that is added to a layer's output: factor · values · amount, broadcastable to (B, H, S, d)."""

    values: Tensor
    amount: Tensor
    factor: float = 1.0


def nested_terms(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Iterator[Term]:
    """What nested attention adds to A V', the attention over values lowered by ``Doses.kept``.

    In fused attention only, so only for scales up to 1 and without masks:

        out_q = A V' + √(H d) · v*_q / ‖v*_q‖ · A C,    C[s] = α β ‖V[s]‖ / √(H d) at s*, 0 elsewhere.

    C is as wide as a head, with equal columns: so A C has the shape of v*_q, and any kernel can compute it.

    Args:
        query: As in ``nested_attention``.
        key: As in ``nested_attention``.
        value: As in ``nested_attention``.
        subjects: As in ``nested_attention``.
        attention_mask: As in ``nested_attention``.

    Yields:
        One term for each subject.
    """
    return terms_with_values(query, key, value, subjects, attention_mask, nested_values)


def terms_with_values(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None,
    values_of: Callable[[Tensor, SubjectValues], Tensor],
) -> Iterator[Term]:
    """``nested_terms`` with another v*_q; see ``attention_with_values``."""
    word_norm = norm(value) if any([subject.alpha is not None for subject in subjects]) else None  # (B, 1, T, 1)
    for subject, added in zip(subjects, doses_of(subjects, value).added, strict=True):
        nested = values_of(query, subject)  # (B, H, S, d)
        columns = added.expand(-1, -1, -1, value.shape[3])  # (B or 1, 1, T, d)
        if word_norm is None or subject.alpha is None:
            columns = columns.contiguous()
        else:
            columns = columns * word_norm
            nested = nested / length(nested)  # float32 in half precision, too
        columns = columns.to(value.dtype).expand(value.shape)  # C, (B, H, T, d)
        yield Term(nested, F.scaled_dot_product_attention(query, key, columns, attention_mask), root(subject, value))
