"""The plain form of nested attention, for every scale, mask and gradient: it computes A, the outer weights."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .inner import nested_values
from .norms import accurate, length, norm, root
from .values import Doses, SubjectValues, doses_of


def nested_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention in which the values of some prompt tokens depend on the query.

    Args:
        query: (B, H, S, d).
        key: K of the prompt, (B, H, T, d); no token's key changes.
        value: V of the prompt, (B, H, T, d).
        subjects: Any number of subjects. Two of them may share a position in a row only if they have masks that
            sum to 1 at most.
        attention_mask: Added to the outer logits, broadcastable to (B, H, S, T).

    Returns:
        (B, H, S, d), before the output projection. Memory is O(B·H·S·(T + d)): the values of all queries,
        (B, H, S, T, d), are never formed.

    Raises:
        NestedAdapterError: A subject has no key.
    """
    return attention_with_values(query, key, value, subjects, attention_mask, nested_values)


def attention_with_values(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None,
    values_of: Callable[[Tensor, SubjectValues], Tensor],
) -> Tensor:
    """``nested_attention`` with another v*_q; dial, norm and masks are the same.

    Args:
        query: As in ``nested_attention``.
        key: As in ``nested_attention``.
        value: As in ``nested_attention``.
        subjects: As in ``nested_attention``.
        attention_mask: As in ``nested_attention``.
        values_of: (queries, subject) -> v*_q before its norm is set, (B or 1, H, S or 1, d).
    """
    doses = doses_of(subjects, value)
    weights = outer_weights(query, key, subjects, doses, attention_mask)  # A, (B, H, S, T)
    out = _prompt_values(weights, value, subjects, doses)
    word_norm = norm(value) if any([subject.alpha is not None for subject in subjects]) else None  # (B, 1, T, 1)
    for subject, added in zip(subjects, doses.added, strict=True):
        nested = values_of(query, subject)  # (B, H, S, d)
        share = added if word_norm is None or subject.alpha is None else added * word_norm
        # Σ_s* A[q, s*] · share[s*]: (B, H, S, T) @ (B or 1, 1, T, 1) -> (B, H, S, 1)
        amount = _summed(weights, share)
        if subject.alpha is not None:
            amount = amount / length(nested)
        if subject.mask is not None:
            amount = amount * subject.mask.to(amount.dtype)[:, None, :, None]
        out = torch.addcmul(out, nested, amount, value=root(subject, value))
    return out.to(value.dtype)


def _summed(weights: Tensor, share: Tensor) -> Tensor:
    """Weights (B, H, S, T) times a share of each token (B or 1, 1, T, 1), added up: (B, H, S, 1)."""
    rows, heads, queries, words = weights.shape
    total = torch.bmm(weights.reshape(rows, heads * queries, words), share[:, 0].expand(rows, words, 1))
    return total.view(rows, heads, queries, 1)


def _prompt_values(weights: Tensor, value: Tensor, subjects: Sequence[SubjectValues], doses: Doses) -> Tensor:
    """A V with the rows s* lowered by the subjects' shares: (B, H, S, d)."""
    lowered = None
    for number, subject in enumerate(subjects):
        if subject.mask is not None:  # different for every query: (B, 1, S, T)
            part = subject.mask.to(weights.dtype)[:, None, :, None] * doses.shares[number].transpose(2, 3)
            lowered = part if lowered is None else lowered + part
    # a word has either masked subjects or one without a mask, so the two factors multiply
    weights = weights if lowered is None else weights * (1 - lowered)
    return weights @ (value * doses.kept.to(weights.dtype))


def outer_weights(
    query: Tensor,
    key: Tensor,
    subjects: Sequence[SubjectValues],
    doses: Doses,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """A = softmax of the outer logits, with those of the subjects' words raised by λ; (B, H, S, T).

    In float32 or wider, as inside scaled_dot_product_attention: rounding logits of 20 to half precision would change
    the weights by some per cent, and λ multiplies that.
    """
    dtype = accurate(query)
    with _without_autocast(query.device.type):
        flat = [x.to(dtype).flatten(0, 1) for x in (query, key)]  # (B, H, L, d) -> (B · H, L, d)
        # Q Kᵀ / √d in one operation
        logits = torch.baddbmm(
            flat[0].new_empty(1, 1, 1), flat[0], flat[1].transpose(1, 2), beta=0, alpha=query.shape[-1] ** -0.5
        ).view(*query.shape[:3], key.shape[2])
    # compiled, always: so that other scales need no new graph
    if torch.compiler.is_compiling() or doses.raises:
        factor = doses.raised.to(dtype)  # λ at s*, 1 elsewhere, (B, 1, 1 or S, T)
        for subject, extra in zip(subjects, doses.extras, strict=True):
            if subject.mask is not None:
                factor = factor + extra.to(dtype) * subject.mask.to(dtype)[:, None, :, None]
        logits = torch.maximum(logits, logits * factor)  # max() with the logits themselves never lowers one
    if attention_mask is not None:
        logits = logits + attention_mask
    return logits.softmax(dim=-1)


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Autocast off where it is on; not all devices have it."""
    is_on = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if is_on else nullcontext()
