"""`nested_attention` against the paper's equations: values, weights, masks and gradients."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attention_formula import (
    HEADS,
    PLACEMENTS,
    QUERIES,
    ROWS,
    TOKENS,
    WORDS,
    Inputs,
    by_the_paper,
    has_fast_form,
    make_inputs,
    plain_attention,
)
from diffusers_nested.attention import nested_attention


def assert_follows_the_paper(inputs: Inputs) -> None:
    expected = by_the_paper(inputs)
    torch.testing.assert_close(inputs.run(), expected, rtol=1e-10, atol=1e-12)
    if has_fast_form(inputs):
        torch.testing.assert_close(inputs.run_fast(), expected, rtol=1e-10, atol=1e-12)


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
