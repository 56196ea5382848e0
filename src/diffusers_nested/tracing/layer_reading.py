"""What a cross-attention layer does in one call of the UNet, computed once more from its inputs.

The layer itself is left alone, so its output is bit for bit what it would be. Letters in shapes as in ``attention``:
H heads, S queries, T prompt tokens, N subject tokens, d head width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from ..attention import SubjectValues, length, nested_values
from ..attention.norms import norm
from ..injection.groups import LayerGroup
from ..injection.placement import rows_of
from ..injection.processor import at_rows, check_batch, subjects_at, to_heads
from ..mechanisms.base import raised_weights, strengths

Inputs = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True, eq=False)
class SubjectReading:
    """What the queries of a picture read of a subject.

    Attributes:
        tokens: What reaches a query of each of its tokens, (S, N), the mean of all heads, or (H, S, N): the nested
            attention times what the subject gets, for nested attention Σ_s* A[q, s*].
        entropy: Of the nested attention, the mean of all heads and queries, in nats.
        values: v*_q, (S, H · d), with the norm that the layer gives it.
    """

    tokens: Tensor
    entropy: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class RowReading:
    """What a layer does in one row of the batch.

    Attributes:
        row: Which row.
        words: A, the attention over the prompt, (S, T), the mean of all heads, or (H, S, T).
        entropy: Of A, the mean of all heads and queries, in nats.
        subjects: By their numbers in the prompt; mechanisms without attention over a subject's tokens have none.
    """

    row: int
    words: Tensor
    entropy: Tensor
    subjects: dict[int, SubjectReading] = field(default_factory=dict)


def read_layer(
    attn: Attention, acting: Sequence[LayerGroup], rows: Sequence[int], inputs: Inputs, heads: bool
) -> Iterator[RowReading]:
    """What a layer does in some rows.

    Args:
        attn: The layer.
        acting: The groups of rows on which subjects act in it.
        rows: Which rows.
        inputs: Its hidden states (B, S, C), the prompt's embeddings (B, T, D), and a mask or None.
        heads: Whether to keep the heads apart.

    Raises:
        RowsNotFoundError: Something splits the batch inside the UNet.
    """
    left = list(rows)
    if acting:
        check_batch(acting, inputs[1])
    for group in acting:
        numbers = _numbers(group, len(inputs[1]))
        mine = [row for row in left if row in numbers]
        left = [row for row in left if row not in numbers]
        if mine:
            yield from _read_group(attn, group, [(row, numbers.index(row)) for row in mine], inputs, heads)
    if left:
        query, key, _, mask = to_heads(attn, *at_rows(rows_of(left, inputs[0].device), *inputs))
        for row, weights in zip(left, raised_weights(query, key, (), mask)[0], strict=True):
            yield RowReading(row, *_words(weights, heads))


def _read_group(
    attn: Attention, group: LayerGroup, members: Sequence[tuple[int, int]], inputs: Inputs, heads: bool
) -> Iterator[RowReading]:
    """The rows of a group, each given with its number in the group."""
    query, key, value, mask = to_heads(attn, *at_rows(group.rows, *inputs))
    subjects = subjects_at(attn, group, query.device, key.dtype)
    if group.mechanism.weights is None:
        weights, amounts = raised_weights(query, key, (), mask)[0], strengths(subjects, key)
    else:
        weights, amounts = group.mechanism.weights(query, key, subjects, mask)
    values = [None if one.key is None else _normed(nested_values(query, one), one, value) for one in subjects]
    for row, i in members:
        found = {
            slot: SubjectReading(
                *_tokens(query[i], one, i, amount[i % len(amount)], heads), own[i].transpose(0, 1).flatten(1)
            )
            for slot, one, own, amount in zip(group.slots, subjects, values, amounts, strict=True)
            if own is not None
        }
        yield RowReading(row, *_words(weights[i], heads), subjects=found)


def _words(weights: Tensor, heads: bool) -> tuple[Tensor, Tensor]:
    """A (H, S, T) as it is kept, and its entropy."""
    return weights if heads else weights.mean(0), _entropy(weights)


def _tokens(query: Tensor, subject: SubjectValues, row: int, amount: Tensor, heads: bool) -> tuple[Tensor, Tensor]:
    """softmax(q K̆ᵀ / √d + log w) of the queries (H, S, d) of one row times an amount, and its entropy."""
    assert subject.key is not None
    key = subject.key[row % len(subject.key)]
    log_weights = 0.0
    if subject.log_weights is not None:
        given = subject.log_weights.reshape(-1, key.shape[-2]).float()
        log_weights = given[row % len(given)]
    kept, entropy = [], query.new_zeros((), dtype=torch.float32)
    of_heads = amount.float().expand(len(query), -1, -1)  # (H, S or 1, 1)
    for q, k, part in zip(query.float(), key.float(), of_heads, strict=True):  # head by head: (S, N) may be large
        weights = (q @ k.T * q.shape[-1] ** -0.5 + log_weights).softmax(-1)
        entropy = entropy + _entropy(weights) / len(query)
        weights = weights * part
        kept = [*kept, weights] if heads or not kept else [kept[0].add_(weights)]
    return torch.stack(kept) if heads else kept[0] / len(query), entropy


def _normed(nested: Tensor, subject: SubjectValues, value: Tensor) -> Tensor:
    """v*_q (B, H, S, d) with the norm α ‖V[s*]‖, the mean of the word's pieces."""
    if subject.alpha is None:
        return nested
    at = subject.positions[:, None, :, None].to(nested.dtype)  # (B or 1, 1, T, 1)
    word = (norm(value) * at).sum(2, keepdim=True) / at.sum(2, keepdim=True).clamp(min=1)
    return (nested * (subject.alpha * word / length(nested))).to(nested.dtype)


def _entropy(weights: Tensor) -> Tensor:
    """The mean entropy of distributions along the last dimension; of parts of one, too."""
    return torch.special.entr(weights).sum(-1).mean()


def _numbers(group: LayerGroup, batch: int) -> list[int]:
    """The rows of a group, in their order."""
    if group.rows is None:
        return list(range(batch))
    return list(range(*group.rows)) if isinstance(group.rows, tuple) else group.rows.tolist()
