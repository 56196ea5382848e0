"""What a layer of the mechanism "located" adds to decoupled attention, and where it finds words."""

import pytest
import torch
from torch import Tensor

from diffusers_nested.attention import SubjectValues
from diffusers_nested.mechanisms import get_mechanism
from diffusers_nested.mechanisms.located import watching
from diffusers_nested.mechanisms.located import where as where_words
from launches import Launches

ROWS, HEADS, QUERIES, WORDS, TOKENS, WIDTH = 2, 4, 9, 7, 3, 5


def where(seen: Tensor, words: list[int] | None = None) -> Tensor:
    """M of subjects at these words, by default each at its own."""
    numbers = torch.tensor(words) if words else torch.arange(len(seen))
    return where_words(seen, numbers[:, None].expand(seen.shape[:2]))


def heads(length: int, seed: int, dtype: torch.dtype) -> Tensor:
    """As a layer splits them, (B, H, L, d)."""
    flat = torch.randn(ROWS, length, HEADS * WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return flat.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)


def layer(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return heads(QUERIES, 0, dtype), heads(WORDS, 1, dtype), heads(WORDS, 2, dtype)


def subject(word: int, seen: Tensor | None, dtype: torch.dtype) -> SubjectValues:
    positions = torch.zeros(ROWS, WORDS, dtype=dtype)
    positions[:, word] = 1
    mask = None if seen is None else torch.ones(ROWS, QUERIES, dtype=dtype)
    read = (heads(TOKENS, seed, dtype) for seed in (3, 4))
    return SubjectValues(next(read), next(read), positions, torch.tensor(1.0), None, None, mask, seen)


def launches(name: str, subjects: list[SubjectValues], dtype: torch.dtype) -> int:
    with torch.no_grad(), Launches() as counted:
        get_mechanism(name).attend(*layer(dtype), subjects)
    return len(counted.names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_seeing_costs_few_operations(dtype: torch.dtype):
    seen = torch.zeros(ROWS, QUERIES)
    plain, located = (
        launches(name, [subject(2, given, dtype)], dtype) for name, given in (("decoupled", None), ("located", seen))
    )
    assert 0 < located - plain <= 10
    more = launches("located", [subject(word, seen, dtype) for word in (2, 4)], dtype) - located
    assert more <= plain + 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_what_is_seen_adds_up_in_full_precision(dtype: torch.dtype):
    seen = torch.full((ROWS, QUERIES), 1000.0, dtype=torch.float64 if dtype is torch.float64 else torch.float32)
    masked = torch.zeros(ROWS, 1, 1, WORDS, dtype=dtype)
    masked[..., 5] = -1e4
    get_mechanism("located").attend(*layer(dtype), [subject(2, seen, dtype)], masked)
    query, key, _ = (x.double() for x in layer(dtype))
    expected = torch.zeros(ROWS, QUERIES).double()
    for h in range(HEADS):
        logits = query[:, h] @ key[:, h].transpose(1, 2) / WIDTH**0.5 + masked[:, 0].double()
        expected += logits.softmax(-1)[..., 2]
    allowed = {torch.float64: 1e-12, torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]
    assert (seen.double() - 1000 - expected).abs().max() < allowed


def square(row: slice, column: slice, low: float = 0.1, high: float = 0.3) -> Tensor:
    seen = torch.full((1, 1, 12, 12), low)
    seen[..., row, column] = high
    return seen


def test_a_word_is_where_it_stands_out_at_any_strength():
    expected = square(slice(2, 8), slice(3, 9), 0.0, 1.0)
    inner = square(slice(3, 7), slice(4, 8), 0.0, 1.0).bool()
    for low, high in ((0.1, 0.3), (1e-4, 3e-4), (50.0, 80.0)):
        found = where(square(slice(2, 8), slice(3, 9), low, high))
        assert (found[inner] == 1).all()
        assert found[expected == 0].mean() < 0.06
        assert (found >= 0).all() and (found <= 1).all()


def test_words_compete_for_places():
    left, right = slice(0, 7), slice(5, 12)
    both = torch.cat([square(slice(2, 10), left, high=0.6), square(slice(2, 10), right, high=0.3)])
    both[1, 0, 2:10, 5:7] += 0.4  # where the two overlap, the second stands out more
    first, second = where(both)[:, 0]
    assert (first[4:8, 0:4] == 1).all() and (second[4:8, 9:12] > 0.5).all()
    assert (second[4:8, 5:7] == 1).all() and (first[4:8, 5:7] < where(both[:1])[0, 0, 4:8, 5:7]).all()
    assert (first + second).max() < 1.4


def test_a_word_that_was_never_seen_is_no_rival():
    """Its subject is off, or has not begun."""
    alone = square(slice(2, 8), slice(3, 9), 0.1, 0.3) + 0.05 * torch.rand(
        12, 12, generator=torch.Generator().manual_seed(1)
    )
    first, second = where(torch.cat([alone, torch.zeros_like(alone)]))
    assert torch.equal(first, where(alone)[0]) and (second == 0.5).all()


def test_nothing_seen_and_nothing_that_stands_out():
    assert torch.equal(where(torch.zeros(2, 1, 4, 4)), torch.full((2, 1, 4, 4), 0.5))
    flat = torch.full((1, 1, 6, 6), 0.2) + 1e-5 * torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert where(flat).std() < 0.01


def test_layers_on_the_way_up_watch_if_they_act():
    paths = ["down_blocks.1.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.1"]
    assert watching(paths) == {paths[2]}
    assert watching(iter(paths[:2])) == set(paths[:2])


def test_subjects_at_the_same_word_are_no_rivals():
    seen = torch.rand(1, ROWS, 6, 6, generator=torch.Generator().manual_seed(0))
    seen[:, :, :3] += 2
    other = seen.flip(-2)
    alone, apart = where(seen), where(torch.cat([seen, other]))
    same = where(torch.cat([seen, seen, other]), [0, 0, 1])
    assert alone.amax() == 1
    torch.testing.assert_close(where(torch.cat([seen, seen]), [7, 7]), alone.expand(2, -1, -1, -1))
    torch.testing.assert_close(same[:2], apart[:1].expand(2, -1, -1, -1))
    torch.testing.assert_close(same[2], apart[1])
