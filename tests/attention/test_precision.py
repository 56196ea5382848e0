"""`nested_attention` in half precision: large values, large logits, and autocast."""

import math
from dataclasses import replace

import pytest
import torch

from attention_formula import PLACEMENTS, TOKENS, Inputs, by_the_paper, has_fast_form, make_inputs

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
