"""The paper's equations of nested attention, written out by loops in float64, and inputs for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_nested.attention import Doses, SubjectValues, nested_attention, nested_terms

ROWS, HEADS, QUERIES, WORDS, TOKENS, WIDTH = 3, 2, 4, 6, 5, 3

# Where subjects sit: per subject, per row, its positions in the prompt.
PLACEMENTS = {
    "one word": [[[2], [2], [2]]],
    "word of three pieces": [[[1, 2, 3], [1, 2, 3], [1, 2, 3]]],
    "two occurrences": [[[1, 4], [1, 4], [1, 4]]],
    "another place in every row": [[[0], [5], [2, 3]]],
    "a row without it": [[[3], [], [1]]],
    "in no row": [[[], [], []]],
    "two subjects": [[[1], [1], [1]], [[3, 4], [3, 4], [3, 4]]],
    "two subjects, each somewhere else": [[[0], [4], []], [[2, 5], [], [1]]],
    "three subjects": [[[0], [0], [1]], [[1], [1], [0]], [[4, 5], [2], [3, 4]]],
}


@dataclass(frozen=True)
class Inputs:
    query: Tensor
    key: Tensor
    value: Tensor
    subjects: tuple[SubjectValues, ...]
    mask: Tensor | None = None

    def run(self) -> Tensor:
        return nested_attention(self.query, self.key, self.value, self.subjects, self.mask)

    def run_fast(self) -> Tensor:
        """The fast form: attention over lowered values, and a term for each subject."""
        rows, dtype = (self.query, self.key, self.value), self.value.dtype
        kept = Doses.of(self.subjects, HEADS * WIDTH, dtype).kept.to(dtype)
        out = F.scaled_dot_product_attention(self.query, self.key, self.value * kept, self.mask)
        for values, amount, factor in nested_terms(*rows, self.subjects, self.mask):
            out = out.addcmul_(values, amount, value=factor)
        return out

    def with_subjects(self, **changes: Any) -> "Inputs":
        return replace(self, subjects=tuple(replace(subject, **changes) for subject in self.subjects))

    def to(self, dtype: torch.dtype) -> "Inputs":
        subjects = tuple(replace(s, key=s.key.to(dtype), value=s.value.to(dtype)) for s in self.subjects)
        return Inputs(self.query.to(dtype), self.key.to(dtype), self.value.to(dtype), subjects, self.mask)


def make_inputs(placement: Sequence[Sequence[Sequence[int]]], seed: int = 0, **subject: Any) -> Inputs:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    query = random(ROWS, HEADS, QUERIES, WIDTH)
    key, value = random(ROWS, HEADS, WORDS, WIDTH), random(ROWS, HEADS, WORDS, WIDTH)
    subjects = []
    for rows in placement:
        shape = (ROWS, HEADS, TOKENS, WIDTH)
        subjects.append(SubjectValues(random(*shape), random(*shape), positions_of(rows), **subject))
    return Inputs(query, key, value, tuple(subjects))


def positions_of(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([[float(t in row) for t in range(WORDS)] for row in rows])


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    terms = [math.exp(x - top) for x in logits]
    return [x / math.fsum(terms) for x in terms]


def dot(left: list[float], right: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(left, right, strict=True))


def by_the_paper(inputs: Inputs) -> Tensor:
    """Sections 3.1, 3.2 and 5.1 for one row, one query and one token after the other, V_q formed every time."""
    query, key, value = (x.double().tolist() for x in (inputs.query, inputs.key, inputs.value))
    rows, heads, queries, width = inputs.query.shape
    words = inputs.key.shape[2]
    mask = None if inputs.mask is None else inputs.mask.double().expand(rows, heads, queries, words).tolist()
    out = torch.zeros(rows, heads, queries, width, dtype=torch.float64)
    for b in range(rows):
        for s in range(queries):
            v_q = [[list(value[b][h][t]) for t in range(words)] for h in range(heads)]
            factor = [1.0] * words
            for subject in inputs.subjects:
                scale = float(subject.scale)
                nested = nested_value(subject, b, [query[b][h][s] for h in range(heads)])
                here = subject.positions[b if len(subject.positions) > 1 else 0].tolist()
                for t in range(words):
                    if not here[t]:
                        continue
                    factor[t] = max(1.0, scale)
                    beta = min(1.0, scale)
                    stretch = 1.0
                    if subject.alpha is not None:  # ‖v*‖ ← α ‖V[s*]‖, over all heads
                        word_norm = math.sqrt(math.fsum(x * x for h in range(heads) for x in value[b][h][t]))
                        norm = math.sqrt(math.fsum(x * x for head in nested for x in head))
                        stretch = subject.alpha * word_norm / norm
                    for h in range(heads):
                        for i in range(width):
                            v_q[h][t][i] = (1 - beta) * value[b][h][t][i] + beta * stretch * nested[h][i]
            for h in range(heads):
                logits = [dot(query[b][h][s], key[b][h][t]) / math.sqrt(width) for t in range(words)]
                logits = [max(x, lam * x) for x, lam in zip(logits, factor, strict=True)]
                if mask is not None:
                    logits = [x + m for x, m in zip(logits, mask[b][h][s], strict=True)]
                weights = softmax(logits)
                for i in range(width):
                    out[b, h, s, i] = math.fsum(weights[t] * v_q[h][t][i] for t in range(words))
    return out


def nested_value(subject: SubjectValues, row: int, query: list[list[float]]) -> list[list[float]]:
    """v*_q of one query, (heads, width), before its norm is set."""
    row = row if len(subject.key) > 1 else 0
    key, value = subject.key[row].double().tolist(), subject.value[row].double().tolist()
    tokens, width = len(key[0]), len(key[0][0])
    extra = [0.0] * tokens
    if subject.log_weights is not None:
        log_weights = subject.log_weights.double().reshape(-1, tokens)
        extra = log_weights[row if len(log_weights) > 1 else 0].tolist()
    result = []
    for h in range(len(key)):
        weights = softmax([dot(query[h], key[h][n]) / math.sqrt(width) + extra[n] for n in range(tokens)])
        result.append([math.fsum(weights[n] * value[h][n][i] for n in range(tokens)) for i in range(width)])
    return result


def plain_attention(inputs: Inputs) -> Tensor:
    return F.scaled_dot_product_attention(inputs.query, inputs.key, inputs.value, inputs.mask)


def has_fast_form(inputs: Inputs) -> bool:
    return all(float(subject.scale) <= 1 and subject.mask is None for subject in inputs.subjects)
