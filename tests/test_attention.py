"""`nested_attention` against the paper's equations, written out by loops in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


def assert_follows_the_paper(inputs: Inputs) -> None:
    expected = by_the_paper(inputs)
    torch.testing.assert_close(inputs.run(), expected, rtol=1e-10, atol=1e-12)
    if has_fast_form(inputs):
        torch.testing.assert_close(inputs.run_fast(), expected, rtol=1e-10, atol=1e-12)


def has_fast_form(inputs: Inputs) -> bool:
    return all(float(subject.scale) <= 1 and subject.mask is None for subject in inputs.subjects)


@pytest.mark.parametrize("scale", [0, 0.3, 1, 2.5])
@pytest.mark.parametrize("alpha", [None, 0.5, 2])
@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_follows_the_paper(placement: Any, alpha: float | None, scale: float):
    assert_follows_the_paper(make_inputs(placement, alpha=alpha, scale=scale))


@pytest.mark.parametrize("scale", [0, 0.3, 1, 2.5])
def test_scale_may_be_a_tensor(scale: float):
    inputs = make_inputs(PLACEMENTS["two subjects"], scale=torch.tensor(scale, dtype=torch.float64))
    assert_follows_the_paper(inputs)
    # as a dial holds it
    stored = inputs.with_subjects(scale=torch.tensor(scale, dtype=torch.float32))
    torch.testing.assert_close(stored.run(), by_the_paper(inputs), rtol=1e-6, atol=1e-7)


def test_subjects_with_settings_of_their_own():
    inputs = make_inputs(PLACEMENTS["three subjects"])
    settings = [(0.3, None), (1, 2.0), (3.0, 0.5)]
    subjects = [replace(s, scale=k, alpha=a) for s, (k, a) in zip(inputs.subjects, settings, strict=True)]
    assert_follows_the_paper(replace(inputs, subjects=tuple(subjects)))


def test_one_subject_for_all_rows():
    inputs = make_inputs(PLACEMENTS["two subjects"], scale=1.5)
    shared = tuple(
        replace(s, key=s.key[:1], value=s.value[:1], positions=s.positions[:1], log_weights=torch.randn(1, TOKENS))
        for s in inputs.subjects
    )
    assert_follows_the_paper(replace(inputs, subjects=shared))


def test_one_subject_at_other_positions_in_every_row():
    inputs = make_inputs(PLACEMENTS["another place in every row"], scale=1.5)
    shared = tuple(replace(s, key=s.key[:1], value=s.value[:1]) for s in inputs.subjects)
    assert_follows_the_paper(replace(inputs, subjects=shared))


@pytest.mark.parametrize("shape", [(TOKENS,), (1, TOKENS), (ROWS, TOKENS)])
def test_log_weights(shape: tuple[int, ...]):
    log_weights = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_weights[..., 3:] = -math.inf  # an image of weight 0
    assert_follows_the_paper(make_inputs(PLACEMENTS["two subjects"], log_weights=log_weights))


def test_an_image_of_weight_zero_is_not_there():
    inputs = make_inputs(PLACEMENTS["one word"])
    weighted = inputs.with_subjects(log_weights=torch.tensor([0.0, 0.0, 0.0, -math.inf, -math.inf]))
    (subject,) = inputs.subjects
    without = replace(inputs, subjects=(replace(subject, key=subject.key[:, :, :3], value=subject.value[:, :, :3]),))
    torch.testing.assert_close(weighted.run(), without.run(), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(weighted.run(), inputs.run(), atol=1e-3)


@pytest.mark.parametrize("weight", [0.5, 1.0, 7.0])
def test_equal_weights_change_nothing(weight: float):
    inputs = make_inputs(PLACEMENTS["two subjects"])
    weighted = inputs.with_subjects(log_weights=torch.full((TOKENS,), math.log(weight), dtype=torch.float64))
    torch.testing.assert_close(weighted.run(), inputs.run(), rtol=1e-10, atol=1e-12)


def test_order_of_images_does_not_matter():
    """The tokens of two images, 3 and 2 here, one after the other, with weights or without."""
    inputs = make_inputs(PLACEMENTS["two subjects"])
    swapped = [3, 4, 0, 1, 2]
    for log_weights in (None, torch.tensor([0.5, 0.5, 0.5, -0.2, -0.2], dtype=torch.float64)):
        first = inputs.with_subjects(log_weights=log_weights)
        second = replace(
            first,
            subjects=tuple(
                replace(
                    s,
                    key=s.key[:, :, swapped],
                    value=s.value[:, :, swapped],
                    log_weights=None if log_weights is None else log_weights[swapped],
                )
                for s in first.subjects
            ),
        )
        torch.testing.assert_close(first.run(), second.run(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(ROWS, 1, 1, WORDS), (ROWS, HEADS, 1, WORDS), (1, 1, QUERIES, WORDS)])
def test_attention_mask(shape: tuple[int, ...]):
    mask = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask[..., 4] = -1e4  # as diffusers masks a token
    mask[..., 5] = -math.inf
    inputs = replace(make_inputs(PLACEMENTS["two subjects"], scale=2.5), mask=mask)
    assert_follows_the_paper(inputs)


@pytest.mark.parametrize("masked", [0.0, -1e4])
@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_scale_zero_is_plain_attention(placement: Any, masked: float):
    mask = torch.zeros(ROWS, 1, 1, WORDS, dtype=torch.float64)
    mask[..., 2] = masked
    inputs = replace(make_inputs(placement, scale=0.0), mask=mask)
    torch.testing.assert_close(inputs.run(), plain_attention(inputs), rtol=1e-10, atol=1e-12)


def test_without_subjects_it_is_plain_attention():
    inputs = make_inputs([])
    torch.testing.assert_close(inputs.run(), plain_attention(inputs), rtol=1e-10, atol=1e-12)


def test_row_without_a_subject_is_plain_attention():
    inputs = make_inputs(PLACEMENTS["a row without it"], scale=3.0)
    torch.testing.assert_close(inputs.run()[1], plain_attention(inputs)[1], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(inputs.run()[0], plain_attention(inputs)[0], atol=1e-3)


@pytest.mark.parametrize("placement", ["two subjects", "two subjects, each somewhere else"])
@pytest.mark.parametrize(("alpha", "scale"), [(None, 0.3), (2.0, 1.0), (2.0, 0.7), (0.5, 2.5)])
def test_gradients(placement: str, alpha: float | None, scale: float):
    """Away from the kinks: no logit of these inputs is near 0, where max() turns, and no norm is."""
    inputs = make_inputs(PLACEMENTS[placement], seed=1, alpha=alpha, scale=scale)
    logits = inputs.query @ inputs.key.transpose(-1, -2)
    assert logits.abs().min() > 1e-3
    assert all(subject.value.norm(dim=-1).min() > 1e-2 for subject in inputs.subjects)

    def attend(query: Tensor, key: Tensor, value: Tensor, *nested: Tensor) -> Tensor:
        pairs = zip(inputs.subjects, nested[::2], nested[1::2], strict=True)
        subjects = [replace(subject, key=k, value=v) for subject, k, v in pairs]
        return nested_attention(query, key, value, subjects)

    nested = [x for subject in inputs.subjects for x in (subject.key, subject.value)]
    leaves = [x.requires_grad_() for x in (inputs.query, inputs.key, inputs.value, *nested)]
    assert torch.autograd.gradcheck(attend, leaves)


def test_gradient_at_the_kink_of_lambda_one():
    """At λ = 1 both sides of the maximum are the same number, and the gradient is that of plain logits."""
    inputs = make_inputs(PLACEMENTS["one word"], scale=1.0)
    query = inputs.query.requires_grad_()
    (above,) = torch.autograd.grad(inputs.with_subjects(scale=1 + 1e-9).run().square().sum(), query)
    (exact,) = torch.autograd.grad(inputs.run().square().sum(), query)
    torch.testing.assert_close(exact, above, rtol=1e-6, atol=1e-7)


# What half precision is allowed: the largest error, in units of the largest entry of the result.
TOLERANCES = {torch.float16: 1.5e-3, torch.bfloat16: 8e-3, torch.float32: 3e-6}  # float32 rounds a logit of 40 by 2e-6


def assert_close_in(dtype: torch.dtype, inputs: Inputs) -> None:
    inputs = inputs.to(dtype)
    expected = by_the_paper(inputs)  # the same rounded inputs
    for form in (inputs.run, inputs.run_fast) if has_fast_form(inputs) else (inputs.run,):
        found = form()
        assert found.dtype == dtype
        assert found.isfinite().all()
        assert (found.double() - expected).abs().max() <= TOLERANCES[dtype] * expected.abs().max()


@pytest.mark.parametrize("scale", [0.3, 1, 2.5])
@pytest.mark.parametrize("alpha", [None, 2])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_half_precision(dtype: torch.dtype, alpha: float | None, scale: float):
    log_weights = torch.tensor([0.0, 0.0, -1.5, -1.5, -math.inf])
    for placement in ("two subjects", "a row without it"):
        inputs = make_inputs(PLACEMENTS[placement], alpha=alpha, scale=scale, log_weights=log_weights)
        assert_close_in(dtype, inputs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_half_precision_with_more_queries_than_a_block_holds(dtype: torch.dtype, weighted: bool):
    inputs = make_inputs(PLACEMENTS["two subjects"])
    rows, heads, _, width = inputs.query.shape
    generator = torch.Generator().manual_seed(3)
    inputs = replace(inputs, query=torch.randn(rows, heads, 600, width, dtype=inputs.query.dtype, generator=generator))
    if weighted:
        inputs = inputs.with_subjects(log_weights=torch.tensor([0.0, 0.0, -1.5, -1.5, -math.inf]))
    with torch.no_grad():
        assert_close_in(dtype, inputs)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_half_precision_where_the_square_of_a_value_overflows(dtype: torch.dtype):
    """fp16 ends at 65504: 300² is beyond it, and so is the norm of a vector with entries of some 20 000."""
    inputs = make_inputs(PLACEMENTS["two subjects"])
    for size in (300.0, 1.2e4):
        large = replace(
            inputs,
            value=inputs.value * size,
            subjects=tuple(replace(s, value=s.value * size) for s in inputs.subjects),
        )
        assert_close_in(dtype, large)


def make_large_logits(scale: float = 2.5) -> Inputs:
    """Logits of 20 and more, near to one another: rounded to half precision they would be off by some per cent."""
    inputs = make_inputs(PLACEMENTS["two subjects"], scale=scale)
    ahead = torch.zeros_like(inputs.key)
    ahead[..., 0] = 9.0
    query = inputs.query * 0.5
    query[..., 0] = 4.0
    return replace(inputs, query=query, key=inputs.key * 0.5 + ahead)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_half_precision_with_large_logits(dtype: torch.dtype):
    for scale in (1.0, 2.5):
        assert_close_in(dtype, make_large_logits(scale))


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_where_logits_overflow(dtype: torch.dtype, scale: float):
    """Products of query and key beyond 65504."""
    inputs = make_inputs(PLACEMENTS["two subjects"], scale=scale)
    inputs = replace(inputs, query=inputs.query * 200, key=inputs.key * 200)
    assert (inputs.query @ inputs.key.transpose(-1, -2)).max() > 65504
    assert_close_in(dtype, inputs)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_nested_values_of_zero_stay_zero(dtype: torch.dtype):
    """No direction to stretch: the word gives nothing, rather than NaN."""
    inputs = make_inputs(PLACEMENTS["one word"]).to(dtype)
    (subject,) = inputs.subjects
    inputs = replace(inputs, subjects=(replace(subject, value=torch.zeros_like(subject.value)),))
    unstretched = by_the_paper(inputs.with_subjects(alpha=None))
    for found in (inputs.run(), inputs.run_fast()):
        assert (found.double() - unstretched).abs().max() <= TOLERANCES[dtype] * unstretched.abs().max()


@pytest.mark.parametrize("large", [False, True])
def test_autocast(large: bool):
    """Parameters in float32, projections in bfloat16, as training with mixed precision runs it."""
    inputs = make_large_logits() if large else make_inputs(PLACEMENTS["two subjects"])
    inputs = inputs.with_subjects(log_weights=torch.zeros(TOKENS)).to(torch.bfloat16).to(torch.float32)
    expected = by_the_paper(inputs)
    leaves = [inputs.query.requires_grad_(), *(s.value.requires_grad_() for s in inputs.subjects)]
    with torch.autocast("cpu", torch.bfloat16):
        found = inputs.run()
        with torch.no_grad():
            half = replace(inputs, query=inputs.query.to(torch.bfloat16)).run()  # of a projection in half precision
    for one in (found, half):
        assert (one.double() - expected).abs().max() <= 2 * TOLERANCES[torch.bfloat16] * expected.abs().max()
    grads = torch.autograd.grad(found.float().sum(), leaves)
    assert all(grad.isfinite().all() and grad.any() for grad in grads)


class Sizes(TorchDispatchMode):
    """Records the number of entries of every tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.largest = max([self.largest, *(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))])
        return out


@pytest.mark.parametrize(("words", "width"), [(20, 8), (6, 16)])
@pytest.mark.parametrize("backward", [False, True])
def test_memory(words: int, width: int, backward: bool):
    """No tensor of B·H·S·T·d or B·H·N·S·d entries; not even one of B·H·S·N."""
    rows, heads, queries, tokens = 2, 2, 128, 40
    query, key, value = (torch.randn(rows, heads, length, width) for length in (queries, words, words))
    nested = torch.randn(2, rows, heads, tokens, width)
    leaves = [x.requires_grad_(backward) for x in (query, key, value, nested)]
    positions = torch.zeros(rows, words)
    positions[:, 2:4] = 1
    subjects = [SubjectValues(*nested, positions, 2.5), SubjectValues(*nested, positions.roll(2, 1), 0.5)]
    with Sizes() as sizes:
        out = nested_attention(query, key, value, subjects)
        if backward:
            out.sum().backward()
        else:
            list(nested_terms(query, key, value, subjects))
    assert all((leaf.grad is not None) == backward for leaf in leaves)
    assert rows * heads * queries * width <= sizes.largest <= rows * heads * queries * max(words, width)


def test_compiles_once_for_all_scales():
    graphs = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    dial = torch.tensor(0.0, dtype=torch.float64)
    inputs = make_inputs(PLACEMENTS["two subjects"], scale=dial)
    compiled = torch.compile(nested_attention, backend=backend, fullgraph=True)
    for scale in (0.0, 0.3, 1.0, 2.5):
        dial.fill_(scale)
        found = compiled(inputs.query, inputs.key, inputs.value, inputs.subjects)
        torch.testing.assert_close(found, by_the_paper(inputs), rtol=1e-10, atol=1e-12)
    assert len(graphs) == 1
