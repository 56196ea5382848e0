"""The mathematics of Nested Attention (arXiv 2501.01407, sections 3.1, 3.2 and 5.1); torch only.

In a cross-attention layer every query q reads the prompt's values V with weights A = softmax(q Kᵀ / √d).
A subject replaces the value of its prompt token s* by one that depends on the query:

    v*_q   = softmax(q K̆ᵀ / √d + log w) V̆          attention over the subject's own tokens   (3.2)
    v*_q  ←  α ‖V[s*]‖ v*_q / ‖v*_q‖                 the word's own norm, times α              (3.2)
    V_q[s] = v*_q if s = s*, else V[s]
    out_q  = A V_q

with every key left as it is. V_q differs from query to query, so it is never built. As all that changes
is the row s*, and the direction u_q = v*_q / ‖v*_q‖ is the same for all tokens of a subject,

    out_q = A (V with its rows s* set to zero) + u_q · Σ_s* A[q, s*] α ‖V[s*]‖.

The dial (``scale``) is one number: from 0 to 1 the value is blended, V_q[s*] = (1 − β) V[s*] + β v*_q with
β = scale (our extension; 1 is the paper's layer); above 1 it is the paper's λ, which raises the attention
that the word gets, logits[s*] ← max(logits[s*], λ logits[s*]) (5.1).

A mask m (our extension) says at which queries a subject acts: β and λ − 1 are multiplied by m_q there, so that
m_q = 0 leaves the word as it is. Several masked subjects may share a word; their values are then added,
V_q[s*] = (1 − Σᵢ βᵢ mᵢ_q) V[s*] + Σᵢ βᵢ mᵢ_q v*ᵢ_q.

Letters in shapes: B rows, H heads, S queries, T prompt tokens, N subject tokens, d head width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import NestedAdapterError

_HALF = (torch.bfloat16, torch.float16)
_BLOCK = 256  # queries


@dataclass(frozen=True, eq=False)
class SubjectValues:
    """One subject, as a layer sees it.

    Attributes:
        key: K̆, (B or 1, H, N, d); None for mechanisms that have values only.
        value: V̆, (B or 1, H, N, d).
        positions: (B or 1, T), 1 at the prompt tokens s* of the subject's word and 0 elsewhere. A row of
            zeros has no subject.
        scale: The dial, a number of at least 0 or a 0-d tensor; the mechanism decides what it means.
        alpha: Norm of v*_q in units of the word's own; None leaves v*_q as it is.
        log_weights: Log-weights of blended images, (N,) or (B or 1, N), added to the nested logits.
        mask: Where the subject acts, (B or 1, S), from 0 to 1; None for everywhere.
        seen: (B, S), to which a mechanism that locates words adds the attention that the subject's word gets; None
            for the others.
    """

    key: Tensor | None
    value: Tensor
    positions: Tensor
    scale: Tensor | float = 1.0
    alpha: float | None = 2.0
    log_weights: Tensor | None = None
    mask: Tensor | None = None
    seen: Tensor | None = None


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
    weights = outer_weights(query, key, subjects, attention_mask)  # A, (B, H, S, T)
    out = _prompt_values(weights, value, subjects)
    word_rms = rms(value)  # ‖V[s]‖ / √(H d), (B, T)
    for subject in subjects:
        nested = values_of(query, subject)  # (B, H, S, d)
        share = blend(subject, weights)  # (B, T)
        if subject.alpha is not None:
            share = share * word_rms * subject.alpha
        # Σ_s* A[q, s*] · share[s*]: (B, H · S, T) @ (B, T, 1) -> (B, H, S)
        amount = (weights.flatten(1, 2) @ share[..., None]).view(weights.shape[:3])
        if subject.alpha is not None:
            amount = amount / rms(nested)[:, None]
        if subject.mask is not None:
            amount = amount * subject.mask.to(amount.dtype)[:, None]
        # one pass over the wide tensors; the narrow amounts take the same type
        amount = amount.clamp(max=torch.finfo(out.dtype).max).to(out.dtype)
        out = torch.addcmul(out, nested.to(out.dtype), amount[..., None])
    return out


def _prompt_values(weights: Tensor, value: Tensor, subjects: Sequence[SubjectValues]) -> Tensor:
    """A V with the rows s* lowered by the subjects' shares: (B, H, S, d)."""
    kept = torch.ones_like(value[:, 0, :, 0], dtype=weights.dtype)  # (B, T): 1, and 1 − β at s*
    lowered = None  # by masked subjects, different for every query: (B, S, T)
    for subject in subjects:
        if subject.mask is None:
            kept = kept - blend(subject, weights)
        else:
            part = subject.mask.to(weights.dtype)[:, :, None] * blend(subject, weights)[:, None, :]
            lowered = part if lowered is None else lowered + part
    if lowered is None:
        return weights.to(value.dtype) @ (value * kept[:, None, :, None]).to(value.dtype)
    # a word has either masked subjects or one without a mask, so the two factors multiply
    weights = weights * (kept[:, None, :] * (1 - lowered))[:, None]
    return weights.to(value.dtype) @ value


def nested_values(query: Tensor, subject: SubjectValues) -> Tensor:
    """v*_q before its norm is set: attention of the queries (B, H, S, d) over the subject's tokens."""
    if subject.key is None:
        raise NestedAdapterError("A subject has no key, so no query can read its tokens. Pass a key.")
    shape = (query.shape[0], -1, -1, -1)
    key, value, mask = subject.key.expand(shape), subject.value.expand(shape), subject.log_weights
    if mask is not None:
        mask = mask.to(query.dtype).reshape(-1, 1, 1, mask.shape[-1])  # (B or 1, 1, 1, N)
    if query.device.type == "cpu" and query.dtype in _HALF and not torch.is_grad_enabled():
        return _by_blocks(query, key, value, mask)
    return F.scaled_dot_product_attention(query, key, value, mask)


def _by_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention for one block of queries at a time, whose weights fit into a CPU's cache.

    On CPUs the fused kernel computes in float32, at half the speed of this one in bfloat16 (see benchmarks/).
    """
    heads = query.shape[:2]
    key, value = key.to(query.dtype), value.to(query.dtype)  # under autocast they may be wider
    # contiguous heads, which the products read much faster; scaling N keys is cheaper than S · N logits
    key = (key.contiguous() * query.shape[-1] ** -0.5).transpose(-1, -2).flatten(0, 1)  # (B · H, d, N)
    value = value.contiguous().flatten(0, 1)  # (B · H, N, d)
    bias = None if mask is None else mask.expand(*heads, 1, -1).flatten(0, 1)  # (B · H, 1, N)
    # the same memory for every block: allocating it again takes as long as the attention
    memory = query.new_empty(len(key), min(_BLOCK, query.shape[2]), key.shape[-1])
    out = []
    for block in query.flatten(0, 1).split(_BLOCK, dim=1):
        logits = torch.bmm(block, key, out=memory[:, : block.shape[1]])
        if bias is not None:
            logits += bias
        out.append(torch.bmm(torch.softmax(logits, -1, out=logits), value))
    return torch.cat(out, dim=1).unflatten(0, heads)  # (B · H, S, d) -> (B, H, S, d)


def outer_weights(
    query: Tensor, key: Tensor, subjects: Sequence[SubjectValues], attention_mask: Tensor | None = None
) -> Tensor:
    """A = softmax of the outer logits, with those of the subjects' words raised by λ; (B, H, S, T).

    In float32 or wider, as inside scaled_dot_product_attention: rounding logits of 20 to half precision would change
    the weights by some per cent, and λ multiplies that.
    """
    dtype = accurate(query)
    with torch.autocast(query.device.type, enabled=False):
        # scaling T keys is cheaper than scaling S · T logits
        logits = query.to(dtype) @ (key.to(dtype) * query.shape[-1] ** -0.5).transpose(-1, -2)
    if subjects:
        # λ at s*, 1 elsewhere, (B, 1, 1 or S, T); max() with the logits themselves never lowers one
        factor = torch.ones((), dtype=dtype, device=logits.device)
        for subject in subjects:
            extra = ((dial(subject, logits).clamp(min=1) - 1) * subject.positions.to(dtype))[:, None, None, :]
            if subject.mask is not None:
                extra = extra * subject.mask.to(dtype)[:, None, :, None]
            factor = factor + extra
        logits = torch.maximum(logits, logits * factor)
    if attention_mask is not None:
        logits = logits + attention_mask
    return logits.softmax(dim=-1)


def blend(subject: SubjectValues, like: Tensor) -> Tensor:
    """β at the subject's positions, 0 elsewhere; (B or 1, T)."""
    return subject.positions.to(like.dtype) * dial(subject, like).clamp(max=1)


def dial(subject: SubjectValues, like: Tensor) -> Tensor:
    """The scale as a 0-d tensor."""
    return torch.as_tensor(subject.scale, dtype=like.dtype, device=like.device)


def rms(values: Tensor) -> Tensor:
    """Norm over the whole inner vector, all heads together, divided by √(H d): (B, H, L, d) -> (B, L).

    Only ratios are used, so the divisor cancels. In float32 or wider: the norm of a wide vector, and the squares of
    entries beyond 255, overflow in fp16.
    """
    by_head = torch.linalg.vector_norm(values, dim=-1, dtype=accurate(values))  # (B, H, L); faster than at once
    norm = torch.linalg.vector_norm(by_head, dim=1)
    return (norm * (values.shape[1] * values.shape[3]) ** -0.5).clamp(min=1e-12)


def accurate(values: Tensor) -> torch.dtype:
    """The type of the values, but at least float32."""
    return torch.promote_types(values.dtype, torch.float32)
