"""Rows of a UNet's batch, told apart by their content."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffusers_nested.errors import RowsNotFoundError
from diffusers_nested.injection.rows import RowFinder

LENGTH, WIDTH = 4, 3


def embeddings(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def one() -> Tensor:
    """One prompt."""
    return embeddings(1)


@pytest.fixture
def two() -> Tensor:
    """Two prompts."""
    return embeddings(2)


@pytest.fixture
def negative() -> Tensor:
    return embeddings(2, seed=1)


class Operations(TorchDispatchMode):
    """Counts what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


# How pipelines put together the rows of unconditional (u) and conditional (c) embeddings.
ORDERS: dict[str, tuple[list[str], list[int | None], list[int | None]]] = {
    "guidance": (["u", "c"], [None, 0], [None, None, 0, 1]),
    "no guidance": (["c"], [0], [0, 1]),
    "PAG": (["u", "c", "c"], [None, 0, 0], [None, None, 0, 1, 0, 1]),
    "PAG without guidance": (["c", "c"], [0, 0], [0, 1, 0, 1]),
    "InstructPix2Pix": (["c", "u", "u"], [0, None, None], [0, 1, None, None, None, None]),
}


@pytest.mark.parametrize(("order", "expected", "_"), ORDERS.values(), ids=ORDERS)
def test_order_of_a_pipeline(one: Tensor, negative: Tensor, order: list[str], expected: list, _: list):
    parts = {"u": negative[:1], "c": one}
    finder = RowFinder(one, 1, negative[:1])
    assert finder.find(torch.cat([parts[name] for name in order])) == expected


@pytest.mark.parametrize(("order", "_", "expected"), ORDERS.values(), ids=ORDERS)
def test_order_of_a_pipeline_with_two_prompts(two: Tensor, negative: Tensor, order: list[str], _: list, expected: list):
    parts = {"u": negative, "c": two}
    finder = RowFinder(two, 2, negative)
    assert finder.find(torch.cat([parts[name] for name in order])) == expected


def test_rows_in_any_order(two: Tensor, negative: Tensor):
    finder = RowFinder(two, 2, negative)
    rows = torch.stack([two[1], negative[0], two[0], two[1], negative[1]])
    assert finder.find(rows) == [1, None, 0, 1, None]


def test_one_prompt_of_several(two: Tensor):
    """As when rows go through the UNet one by one, or a callback keeps the last one."""
    finder = RowFinder(two, 2)
    assert finder.find(two[1:]) == [1]
    assert finder.find(two[:1]) == [0]


def test_frames_repeat_their_row(two: Tensor, negative: Tensor):
    """As AnimateDiff does, after the parts are put together."""
    finder = RowFinder(two, 2, negative)
    rows = torch.cat([negative, two]).repeat_interleave(3, dim=0)
    assert finder.find(rows) == [None] * 6 + [0] * 3 + [1] * 3


def test_several_images_of_a_prompt(two: Tensor, negative: Tensor):
    """`num_images_per_prompt`: the rows of a prompt stand next to each other."""
    positive = two.repeat_interleave(2, dim=0)
    finder = RowFinder(positive, 2, negative.repeat_interleave(2, dim=0))
    assert finder.find(positive) == [0, 0, 1, 1]
    assert finder.find(torch.cat([negative.repeat_interleave(2, dim=0), positive])) == [None] * 4 + [0, 0, 1, 1]


def test_prompts_of_the_same_words_are_handed_out_in_turn(two: Tensor, negative: Tensor):
    """Each has subjects of its own, and nothing but the order tells them apart."""
    positive = torch.stack([two[0], two[1], two[0]])
    finder = RowFinder(positive, 3, negative[:1])
    assert finder.find(positive) == [0, 1, 2]
    assert finder.find(torch.cat([negative, positive])) == [None, None, 0, 1, 2]
    assert finder.find(torch.cat([positive, positive])) == [0, 1, 2, 0, 1, 2]
    assert finder.find(positive.clone()) == [0, 1, 2]  # from the start again


def test_prompts_of_the_same_words_with_several_images(one: Tensor):
    positive = one.repeat(4, 1, 1)  # two prompts, two images of each
    finder = RowFinder(positive, 2)
    assert finder.find(positive.clone()) == [0, 0, 1, 1]
    assert finder.find(torch.cat([positive, positive])) == [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_rows_in_another_type(two: Tensor, negative: Tensor, dtype: torch.dtype):
    finder = RowFinder(two, 2, negative)
    assert finder.find(torch.cat([negative, two]).to(dtype)) == [None, None, 0, 1]
    finder = RowFinder(two.to(dtype), 2, negative.to(dtype))
    assert finder.find(torch.cat([negative, two]).to(dtype).float()) == [None, None, 0, 1]


def test_every_entry_counts(one: Tensor):
    finder = RowFinder(one, 1)
    for token in range(LENGTH):
        for entry in range(WIDTH):
            other = one.clone()
            other[0, token, entry] += 1e-3
            assert finder.find(torch.cat([other, one])) == [None, 0]


def test_negative_prompt_of_zeros(one: Tensor):
    """What SDXL takes for an empty negative prompt."""
    zeros = torch.zeros_like(one)
    assert RowFinder(one, 1, zeros).find(torch.cat([zeros, one])) == [None, 0]


def test_negative_prompt_of_another_length(one: Tensor):
    longer = torch.cat([one, one], dim=1)
    assert RowFinder(one, 1, longer).find(one) == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_negative_prompt_that_is_the_prompt_is_refused(two: Tensor, negative: Tensor, dtype: torch.dtype):
    for other in (two[0], two[1]):  # that of another prompt, too
        with pytest.raises(RowsNotFoundError, match=r"negative prompt .* its own or another one"):
            RowFinder(two, 2, torch.stack([negative[0], other]).to(dtype))


def test_no_row_of_the_prompt_is_refused(two: Tensor, negative: Tensor):
    finder = RowFinder(two, 2, negative)
    for rows in (two + 1e-3, torch.cat([negative, two + 1e-3]), two.flip(1), torch.full_like(two, float("nan"))):
        with pytest.raises(RowsNotFoundError, match=r"\(4, 3\)"):
            finder.find(rows)
    assert finder.find(two) == [0, 1]


@pytest.mark.parametrize("order", [order for order, _, _ in ORDERS.values()], ids=ORDERS)
@pytest.mark.parametrize("words", ["the same", "others"])
@pytest.mark.parametrize("is_negative_known", [True, False])
def test_one_changed_picture_of_two_is_refused(
    two: Tensor, negative: Tensor, order: list[str], words: str, is_negative_known: bool
):
    prompts = two if words == "others" else two[:1].repeat(2, 1, 1)
    finder = RowFinder(prompts, 2, negative)
    changed = torch.stack([prompts[0], prompts[1] * 1.01])
    with pytest.raises(RowsNotFoundError, match="picture 2 of 2"):
        finder.find(
            torch.cat([changed if kind == "c" else negative * (1 if is_negative_known else 2) for kind in order])
        )


@pytest.mark.parametrize("order", [order for order, _, _ in ORDERS.values()], ids=ORDERS)
def test_changed_negative_prompts_are_rows_of_no_prompt(two: Tensor, negative: Tensor, order: list[str]):
    negatives = torch.stack([negative[0], negative[1] * 1.01])
    found = RowFinder(two, 2, negative).find(torch.cat([two if kind == "c" else negatives for kind in order]))
    assert found == [number if kind == "c" else None for kind in order for number in (0, 1)]


@pytest.mark.parametrize("shape", [(2, LENGTH + 1, WIDTH), (2, LENGTH, WIDTH + 1), (2, LENGTH, 1)])
def test_rows_of_another_shape_are_refused(two: Tensor, shape: tuple[int, ...]):
    with pytest.raises(RowsNotFoundError, match=str(shape[1:]).replace("(", r"\(").replace(")", r"\)")):
        RowFinder(two, 2).find(torch.zeros(shape))


def test_the_same_tensor_is_compared_once(two: Tensor, negative: Tensor):
    finder, rows = RowFinder(two, 2, negative), torch.cat([negative, two])
    with Operations() as first:
        expected = finder.find(rows)
    with Operations() as again:
        assert [finder.find(rows) for _ in range(5)] == [expected] * 5
    assert first.count > 0
    assert again.count == 0


def test_tensors_in_turn_are_compared_once(two: Tensor, negative: Tensor):
    """As with one call of the UNet per condition, step after step."""
    finder = RowFinder(two, 2, negative)
    both, alone = torch.cat([negative, two]), two.clone()
    expected = [finder.find(both), finder.find(alone)]
    with Operations() as again:
        assert [finder.find(both), finder.find(alone)] == expected == [[None, None, 0, 1], [0, 1]]
    assert again.count == 0


def test_a_tensor_changed_in_place_is_compared_anew(two: Tensor, negative: Tensor):
    finder, rows = RowFinder(two, 2, negative), torch.cat([negative, two])
    assert finder.find(rows) == [None, None, 0, 1]
    rows.copy_(torch.cat([two, negative]))
    assert finder.find(rows) == [0, 1, None, None]
    rows[0] = two[1]
    assert finder.find(rows) == [1, 1, None, None]
    rows.zero_()
    with pytest.raises(RowsNotFoundError):
        finder.find(rows)


def test_many_tensors(two: Tensor, negative: Tensor):
    """A new tensor at every step, which may take the place in memory of one that is gone."""
    finder = RowFinder(two, 2, negative)
    for step in range(40):
        order = [two[step % 2], negative[0]] if step % 3 else [negative[0], two[step % 2]]
        expected = [step % 2, None] if step % 3 else [None, step % 2]
        assert finder.find(torch.stack(order)) == expected


def test_inference_mode(two: Tensor, negative: Tensor):
    """Tensors made there do not count their changes."""
    with torch.inference_mode():
        positive = two.clone()
        finder, rows = RowFinder(positive, 2, negative.clone()), torch.cat([negative, two])
        assert rows.is_inference()
        assert finder.find(rows) == [None, None, 0, 1]
        with Operations() as again:
            assert finder.find(rows) == [None, None, 0, 1]
        assert again.count == 0
    assert finder.find(torch.cat([two, negative])) == [0, 1, None, None]


def test_gradients_do_not_matter(two: Tensor):
    """Training of textual inversions: the embeddings are part of a graph."""
    positive = two.requires_grad_() * 1
    assert RowFinder(positive, 2).find(torch.cat([positive, positive + 1])) == [0, 1, None, None]


def test_negative_rows_alone_are_rows_of_no_prompt(two: Tensor, negative: Tensor):
    # a guider may call the UNet once per condition
    finder = RowFinder(two, 2, negative)
    assert finder.find(negative) == [None, None]
    assert finder.find(negative[1:]) == [None]
    assert finder.find(two) == [0, 1]
    with pytest.raises(RowsNotFoundError):
        RowFinder(two, 2).find(negative)


def test_rows_of_frames_go_together(one: Tensor, negative: Tensor):
    # two prompts with the same words and three frames each: the frames of a prompt lie next to each other
    finder = RowFinder(one.repeat(2, 1, 1), 2, negative)
    rows = torch.cat([negative, one, one]).repeat_interleave(3, dim=0)
    assert finder.find(rows, frames=3) == [None] * 6 + [0] * 3 + [1] * 3


NEGATIVES: dict[str, list[int | None]] = {
    "guidance": [0, 1, None, None],
    "no guidance": [None, None],
    "PAG": [0, 1, None, None, None, None],
    "PAG without guidance": [None, None, None, None],
    "InstructPix2Pix": [None, None, 0, 1, 0, 1],
}


@pytest.mark.parametrize("order", ORDERS)
def test_prompts_of_negative_rows(two: Tensor, negative: Tensor, order: str):
    parts = {"u": negative, "c": two}
    rows = torch.cat([parts[name] for name in ORDERS[order][0]])
    assert RowFinder(two, 2, negative).find_negative(rows) == NEGATIVES[order]


def test_equal_negative_prompts_are_handed_out_in_turn(two: Tensor, one: Tensor):
    """As with no negative prompt at all: its embeddings are the same for all prompts."""
    zeros = torch.zeros_like(one)
    images = two.repeat_interleave(2, dim=0)
    finder = RowFinder(images, 2, zeros.repeat(4, 1, 1))
    rows = torch.cat([zeros.repeat(4, 1, 1), images])
    assert finder.find_negative(rows) == [0, 0, 1, 1, None, None, None, None]
    assert finder.find_negative(rows.repeat_interleave(3, dim=0), frames=3)[::3] == finder.find_negative(rows)
    # a single one for all prompts
    assert RowFinder(two, 2, zeros).find_negative(torch.cat([zeros, zeros, two])) == [0, 1, None, None]


def test_negative_rows_of_later_prompts(two: Tensor, negative: Tensor):
    finder = RowFinder(two, 2, negative)
    later, other = embeddings(1, seed=2), embeddings(1, seed=3)
    finder.add(later, 1, other)
    assert finder.find_negative(torch.cat([negative[1:], other, later])) == [1, 2, None]
    assert finder.find(torch.cat([negative[1:], other, later])) == [None, None, 2]
