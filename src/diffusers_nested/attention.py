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

There are two forms of the same layer. ``nested_attention`` is the plain one, for every scale, mask and gradient: it
computes A. ``nested_terms`` is the fast one, for scales up to 1 without masks, when nothing is learnt: as

    Σ_s* A[q, s*] α ‖V[s*]‖ = (A C)_q,    C[s] = α ‖V[s]‖ at s*, 0 elsewhere,

is plain attention over other values, A itself is not needed, and fused attention computes both A V' and A C.

Letters in shapes: B rows, H heads, S queries, T prompt tokens, N subject tokens, d head width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

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
        doses: Of all subjects that act together with this one, if they have been computed before.
    """

    key: Tensor | None
    value: Tensor
    positions: Tensor
    scale: Tensor | float = 1.0
    alpha: float | None = 2.0
    log_weights: Tensor | None = None
    mask: Tensor | None = None
    seen: Tensor | None = None
    doses: "Doses | None" = None


@dataclass(frozen=True, eq=False)
class Doses:
    """What the scales make of the words of subjects that act together: the same for all queries and steps.

    Attributes:
        kept: How much of the values stays, (B or 1, 1, T, 1): 1 − β at s* of subjects without a mask, else 1.
        raised: What positive logits are multiplied by, (B or 1, 1, 1, T): λ at s* of subjects without a mask, else 1.
        raises: Whether a λ may be above 1.
        shares: Of each subject, β at s*, 0 elsewhere, (B or 1, 1, T, 1).
        added: Of each subject, how much of its value is added: ``shares``; with a norm, times α / √(H d), so that
            its product with ‖V[s]‖ is of the size of the values' entries, which half precision can hold.
        extras: Of each subject, λ − 1 at s*, 0 elsewhere, (B or 1, 1, 1, T).
        strengths: Of each subject, the scale in rows that have the word, 0 in others, (B or 1, 1, 1, 1).
    """

    kept: Tensor
    raised: Tensor
    raises: bool
    shares: tuple[Tensor, ...]
    added: tuple[Tensor, ...]
    extras: tuple[Tensor, ...]
    strengths: tuple[Tensor, ...]

    @classmethod
    def of(cls, subjects: Sequence[SubjectValues], size: int, dtype: torch.dtype) -> "Doses":
        """The doses in a layer whose values are of this type and have this width, H d, of all heads together."""
        precise = torch.promote_types(dtype, torch.float32)
        kept = raised = torch.ones((), dtype=precise)
        shares, added, extras, strengths = [], [], [], []
        for subject in subjects:
            at = subject.positions.to(precise)  # (B or 1, T)
            dial = torch.as_tensor(subject.scale, dtype=precise, device=at.device)
            share, extra = at * dial.clamp(max=1), at * (dial.clamp(min=1) - 1)
            shares.append(share[:, None, :, None])
            extras.append(extra[:, None, None, :])
            added.append(shares[-1] if subject.alpha is None else shares[-1] * (subject.alpha * size**-0.5))
            strengths.append((dial * at.amax(dim=1))[:, None, None, None].to(dtype))
            if subject.mask is None:  # then no other subject has its words
                kept, raised = kept.to(at.device) - shares[-1], raised.to(at.device) + extras[-1]
        raises = any([isinstance(subject.scale, Tensor) or subject.scale > 1 for subject in subjects])
        return cls(kept, raised, raises, tuple(shares), tuple(added), tuple(extras), tuple(strengths))


def doses_of(subjects: Sequence[SubjectValues], like: Tensor) -> Doses:
    """What the subjects' scales make of their words, in a layer with values (B, H, L, d)."""
    known = subjects[0].doses if subjects else None
    return known or Doses.of(subjects, like.shape[1] * like.shape[3], like.dtype)


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


def nested_terms(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Iterator["Term"]:
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


class Term(NamedTuple):
    """A product that is added to a layer's output: factor · values · amount, broadcastable to (B, H, S, d)."""

    values: Tensor
    amount: Tensor
    factor: float = 1.0


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
        if subject.alpha is None:
            columns = columns.contiguous()
        else:
            columns = columns * word_norm
            nested = nested / length(nested)  # float32 in half precision, too
        columns = columns.to(value.dtype).expand(value.shape)  # C, (B, H, T, d)
        yield Term(nested, F.scaled_dot_product_attention(query, key, columns, attention_mask), root(subject, value))


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
    if doses.raises:
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


def norm(values: Tensor) -> Tensor:
    """‖·‖ over the whole inner vector, all heads together: (B, H, L, d) -> (B, 1, L, 1).

    In float32 or wider: the norm of a wide vector, and the squares of entries beyond 255, overflow in fp16.
    """
    return torch.linalg.vector_norm(values, dim=(1, 3), keepdim=True, dtype=accurate(values))


def length(values: Tensor) -> Tensor:
    """``norm``, but never so small that dividing by it would overflow: values of zero stay zero."""
    return norm(values).clamp(min=torch.finfo(values.dtype).tiny)


def root(subject: SubjectValues, value: Tensor) -> float:
    """√(H d), by which ``Doses.added`` was divided if the subject has a norm; for the layer's values (B, H, T, d)."""
    return 1.0 if subject.alpha is None else (value.shape[1] * value.shape[3]) ** 0.5


def accurate(values: Tensor) -> torch.dtype:
    """The type of the values, but at least float32."""
    return torch.promote_types(values.dtype, torch.float32)
