"""Maps of words: whose they are, on which grid, and that finding them waits for no device."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffusers_nested.injection.rows import RowFinder
from diffusers_nested.injection.word_maps import GroupMaps, WordMaps, grid_of

LIKE = torch.zeros(1, 4, 5, 7)


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def stand_out(maps: GroupMaps, row: int, size: tuple[int, int], level: int, places: Any) -> None:
    """Let layers see the word of the first subject in one part of a row."""
    seen = maps.at(level, [None])[0][0]
    seen += 0.1
    seen[row].view(size)[places] += 1


@pytest.mark.parametrize("level", [0, 1])
def test_odd_sizes(level: int):
    maps = WordMaps().of_group([["a"]], (5, 7), LIKE)
    sizes = {0: (5, 7), 1: (3, 4), 2: (2, 2)}
    for number, (height, width) in sizes.items():
        seen, masks = maps.at(number, [None])
        assert seen[0].shape == masks[0].shape == (1, height * width)
        assert (masks[0] == 0.5).all()
    stand_out(maps, 0, sizes[level], level, (slice(None), slice(0, sizes[level][1] // 2)))
    maps.update()
    for number, size in sizes.items():
        mask = maps.at(number, [None])[1][0].view(size)
        assert (mask[:, 0] > 0.7).all() and (mask[:, -1] < 0.3).all()


def test_a_users_mask_multiplies_the_place():
    given = torch.linspace(0, 1, 35)[None]
    maps = WordMaps().of_group([["a"]], (5, 7), LIKE)
    torch.testing.assert_close(maps.at(0, [given])[1][0], given / 2)


def test_a_picture_has_the_same_maps_in_all_groups_until_the_next_loop():
    maps = WordMaps()
    first = maps.of_group([["a", "b", "a"]], (4, 4), LIKE)  # one picture twice, as with PAG
    stand_out(first, 0, (4, 4), 0, (slice(0, 2), slice(None)))
    stand_out(first, 2, (4, 4), 0, (slice(0, 2), slice(0, 2)))
    first.update()
    _, (masks,) = first.at(0, [None])
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])
    later = maps.of_group([["b", "a"]], (4, 4), LIKE)  # some rows are gone
    assert torch.equal(later.at(0, [None])[1][0], masks[[1, 0]])
    other = maps.of_group([["a"]], (8, 8), LIKE)
    maps.restart()
    for group in (first, later, other):
        group.at(0, [None])
        group.update()
        assert (group.at(0, [None])[1][0] == 0.5).all()


def test_updating_waits_for_no_device_and_replaces_no_tensor():
    maps = WordMaps().of_group([["a", "b"], ["c", "d"]], (6, 6), LIKE)
    before = [tensor for level in (0, 1) for part in maps.at(level, [None, None]) for tensor in part]
    with Names() as names:
        maps.update()
    assert not names.seen & {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero"}
    after = [tensor for level in (0, 1) for part in maps.at(level, [None, None]) for tensor in part]
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_maps_are_kept_in_float32():
    maps = WordMaps().of_group([["a"]], (4, 4), LIKE.bfloat16())
    (seen,), (mask,) = maps.at(0, [None])
    assert (seen.dtype, mask.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("size", "grid"), [((16, 16), (16, 16)), ((64, 64), (32, 32)), ((128, 128), (32, 32)), ((152, 90), (38, 23))]
)
def test_the_grid_is_no_finer_than_needed(size: tuple[int, int], grid: tuple[int, int]):
    assert grid_of(size) == grid


def test_pictures_of_rows():
    def embeddings(seed: int) -> Tensor:
        return torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(seed))

    finder = RowFinder(embeddings(0), num_prompts=2)  # two pictures for each prompt
    assert finder.pictures([None, None, 0, 0, 1, 1]) == [-1, -1, 0, 1, 2, 3]
    assert finder.pictures([0, 0, 1, 1, 0, 0, 1, 1]) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert finder.pictures([1]) == [2]
    finder.add(embeddings(1), num_prompts=2)
    assert finder.pictures([2, 2, 3, 3]) == [0, 1, 2, 3]
