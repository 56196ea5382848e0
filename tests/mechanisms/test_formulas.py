"""Each mechanism's layer against its own formula, in float64."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_nested import NestedAdapterError
from diffusers_nested.attention import SubjectValues, nested_attention
from diffusers_nested.mechanisms import get_mechanism
from mechanism_formulas import FORMULAS, FormulaSubject

ROWS, HEADS, QUERIES, WORDS, TOKENS, WIDTH = 3, 2, 4, 6, 5, 3
# per subject, per row, its positions in the prompt
PLACEMENTS = {
    "one word": [[[2], [2], [2]]],
    "word of two pieces": [[[1, 2], [1, 2], [1, 2]]],
    "a row without it": [[[3], [], [1]]],
    "two subjects": [[[1], [1], [1]], [[3, 4], [3, 4], [3, 4]]],
    "two subjects, each somewhere else": [[[0], [4], []], [[2, 5], [], [1]]],
}
VALUES_ONLY = ("global_value", "multiple_tokens")
NORMED = VALUES_ONLY

each = pytest.mark.parametrize("name", FORMULAS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prompt() -> tuple[Tensor, Tensor, Tensor]:
    words = (random(ROWS, HEADS, WORDS, WIDTH, seed=i) for i in (1, 2))
    return random(ROWS, HEADS, QUERIES, WIDTH), next(words), next(words)


def subjects_at(name: str, placement: Any, **settings: Any) -> list[SubjectValues]:
    made = []
    for i, rows in enumerate(placement):
        positions = torch.tensor([[float(t in row) for t in range(WORDS)] for row in rows])
        shape = (ROWS, HEADS, TOKENS, WIDTH)
        key = None if name in VALUES_ONLY else random(*shape, seed=10 + i)
        made.append(SubjectValues(key, random(*shape, seed=20 + i), positions, **{"alpha": None, **settings}))
    return made


def expected(name: str, subjects: list[SubjectValues], mask: Tensor | None = None) -> Tensor:
    """The formula row by row, (B, H, S, d)."""
    query, key, value = prompt()
    rows = []
    for b in range(ROWS):
        acting = [one for one in (formula_subject(subject, b) for subject in subjects) if one.positions]
        added = None if mask is None else mask.expand(ROWS, HEADS, QUERIES, WORDS)[b, 0]
        out = FORMULAS[name](flat(query[b]), flat(key[b]), flat(value[b]), acting, HEADS, added)
        rows.append(out.unflatten(-1, (HEADS, WIDTH)).transpose(0, 1))
    return torch.stack(rows)


def flat(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1)  # (H, L, d) -> (L, H · d)


def formula_subject(subject: SubjectValues, row: int) -> FormulaSubject:
    def of_row(x: Tensor | None) -> Any:
        return None if x is None else x[row if len(x) > 1 else 0]

    weights = subject.log_weights
    key = None if subject.key is None else flat(of_row(subject.key))
    return FormulaSubject(
        key,
        flat(of_row(subject.value)),
        tuple(of_row(subject.positions).nonzero()[:, 0].tolist()),
        subject.alpha,
        float(subject.scale),
        weights if weights is None or weights.ndim == 1 else of_row(weights),
        of_row(subject.mask),
    )


def check(name: str, subjects: list[SubjectValues], mask: Tensor | None = None) -> None:
    found = get_mechanism(name).attend(*prompt(), subjects, mask)
    torch.testing.assert_close(found, expected(name, subjects, mask), rtol=1e-10, atol=1e-12)


@each
@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_follows_its_formula(name: str, placement: Any):
    for scale in (0.3, 1, 2.5):
        check(name, subjects_at(name, placement, scale=scale))


@each
def test_the_scale_may_be_a_tensor(name: str):
    check(name, subjects_at(name, PLACEMENTS["two subjects"], scale=torch.tensor(2.5, dtype=torch.float64)))


@each
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_alpha_sets_the_norm_or_is_not_read(name: str, alpha: float):
    subjects = subjects_at(name, PLACEMENTS["two subjects"], alpha=alpha, scale=0.7)
    check(name, subjects)
    attend = get_mechanism(name).attend
    without = [replace(subject, alpha=None) for subject in subjects]
    assert torch.equal(attend(*prompt(), subjects), attend(*prompt(), without)) != (name in NORMED)
    assert get_mechanism(name).has_norm == (name in NORMED)


@each
def test_one_subject_for_all_rows(name: str):
    subjects = subjects_at(name, PLACEMENTS["two subjects"], alpha=2.0, scale=1.5)
    shared = [
        replace(
            one,
            key=None if one.key is None else one.key[:1],
            value=one.value[:1],
            positions=one.positions[:1],
            log_weights=random(1, TOKENS),
        )
        for one in subjects
    ]
    check(name, shared)


@each
@pytest.mark.parametrize("shape", [(TOKENS,), (1, TOKENS), (ROWS, TOKENS)])
def test_weights_of_images(name: str, shape: tuple[int, ...]):
    weights = random(*shape)
    weights[..., 3:] = -math.inf  # an image of weight 0
    check(name, subjects_at(name, PLACEMENTS["two subjects"], log_weights=weights, scale=1.5))


@each
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_equal_weights_change_nothing_and_an_image_of_weight_zero_is_not_there(name: str, alpha: float | None):
    attend, subjects = get_mechanism(name).attend, subjects_at(name, PLACEMENTS["one word"], alpha=alpha)

    def weighted(*weights: float) -> Tensor:
        return attend(*prompt(), [replace(subjects[0], log_weights=torch.tensor(weights).double().log())])

    torch.testing.assert_close(weighted(*[7.0] * TOKENS), attend(*prompt(), subjects), rtol=1e-10, atol=1e-12)
    key = None if subjects[0].key is None else subjects[0].key[:, :, :3]
    fewer = replace(subjects[0], key=key, value=subjects[0].value[:, :, :3])
    torch.testing.assert_close(weighted(2, 2, 2, 0, 0), attend(*prompt(), [fewer]), rtol=1e-10, atol=1e-12)


@each
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_masks(name: str, scale: float):
    mask = torch.tensor([[0.0, 0.3, 1.0, 0.8]]).double()
    subjects = subjects_at(name, PLACEMENTS["two subjects"], scale=scale, alpha=2.0)
    check(name, [replace(subjects[0], mask=mask), subjects[1]])
    check(name, [replace(subjects[0], mask=mask.expand(ROWS, -1)), replace(subjects[1], mask=1 - mask)])
    # at one word
    check(name, [replace(subjects[0], mask=mask), replace(subjects[1], mask=1 - mask, positions=subjects[0].positions)])


@each
def test_attention_mask(name: str):
    mask = random(ROWS, 1, 1, WORDS)
    mask[..., 4] = -1e4  # as diffusers masks a token
    mask[..., 5] = -math.inf
    check(name, subjects_at(name, PLACEMENTS["two subjects"], scale=2.5), mask)


@each
def test_off_it_is_plain_attention(name: str):
    attend, plain = get_mechanism(name).attend, F.scaled_dot_product_attention(*prompt())
    for placement in PLACEMENTS.values():
        off = attend(*prompt(), subjects_at(name, placement, scale=0.0))
        torch.testing.assert_close(off, plain, rtol=1e-10, atol=1e-12)
    without = attend(*prompt(), subjects_at(name, PLACEMENTS["a row without it"], scale=3.0))
    torch.testing.assert_close(without[1], plain[1], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(without[0], plain[0], atol=1e-3)


@each
@pytest.mark.parametrize(("alpha", "scale"), [(None, 0.3), (2.0, 1.0), (0.5, 2.5)])
def test_gradients(name: str, alpha: float | None, scale: float):
    subjects = subjects_at(name, PLACEMENTS["two subjects, each somewhere else"], alpha=alpha, scale=scale)

    def attend(query: Tensor, key: Tensor, value: Tensor, *nested: Tensor) -> Tensor:
        read = iter(nested)
        made = [replace(s, key=None if s.key is None else next(read), value=next(read)) for s in subjects]
        return get_mechanism(name).attend(query, key, value, made)

    nested = [x for s in subjects for x in (s.key, s.value) if x is not None]
    leaves = [x.requires_grad_() for x in (*prompt(), *nested)]
    assert torch.autograd.gradcheck(attend, leaves)


# the largest error, in units of the largest entry of the result
@each
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float16, 3e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_half_precision(name: str, dtype: torch.dtype, allowed: float):
    weights = torch.tensor([0.0, 0.0, -1.5, -1.5, -math.inf])
    subjects = subjects_at(name, PLACEMENTS["two subjects"], alpha=2.0, scale=2.5, log_weights=weights)
    half = [replace(s, key=None if s.key is None else s.key.to(dtype), value=s.value.to(dtype)) for s in subjects]
    found = get_mechanism(name).attend(*(x.to(dtype) for x in prompt()), half)
    assert found.dtype == dtype
    wanted = expected(name, subjects)
    assert (found.double() - wanted).abs().max() <= allowed * wanted.abs().max()


@each
def test_compiles_once_for_all_scales(name: str):
    graphs = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    dial = torch.tensor(0.5, dtype=torch.float64)
    subjects = subjects_at(name, PLACEMENTS["two subjects"], alpha=2.0, scale=dial)
    compiled = torch.compile(get_mechanism(name).attend, backend=backend, fullgraph=True)
    for scale in (0.3, 1.0, 2.5):
        dial.fill_(scale)
        torch.testing.assert_close(compiled(*prompt(), subjects), expected(name, subjects), rtol=1e-10, atol=1e-12)
    assert len(graphs) == 1


def test_tokens_of_one_key_are_a_mean_with_more_attention():
    """Multiple tokens are global V with log N on the logit of s*."""
    query, key, value = prompt()
    subjects = subjects_at("multiple_tokens", PLACEMENTS["one word"])
    raised = torch.zeros(1, 1, 1, WORDS, dtype=torch.float64)
    raised[..., 2] = math.log(TOKENS)
    as_one = get_mechanism("global_value").attend(query, key, value, subjects, raised)
    as_many = get_mechanism("multiple_tokens").attend(query, key, value, subjects)
    torch.testing.assert_close(as_many, as_one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", VALUES_ONLY)
def test_nested_attention_needs_keys(name: str):
    with pytest.raises(NestedAdapterError, match="key"):
        nested_attention(*prompt(), subjects_at(name, PLACEMENTS["one word"]))
