"""Maps of the subjects' words, for mechanisms that act only there: what the layers have seen, and where that is.

Nothing here waits for the device.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import accurate
from ..mechanisms.located import where
from .masks import size_at

FINEST = 32  # of SDXL's layers, most have a grid of 32 x 32; finer maps are noise (Prompt-to-Prompt takes 16 x 16)


@dataclass(frozen=True, eq=False)
class _Level:
    """The maps of a group's subjects at one level of the UNet, which its layers read and write in place.

    Attributes:
        seen: Per subject, (rows, S), what the layers have added up.
        masks: Per subject, (rows, S), where it acts in the current call of the UNet.
        given: Per subject, the user's mask (rows or 1, S); None for everywhere.
    """

    seen: list[Tensor]
    masks: list[Tensor]
    given: Sequence[Tensor | None]


class GroupMaps:
    """Maps of the words of one group of rows; see ``WordMaps.of_group``."""

    def __init__(self, maps: "WordMaps", numbers: Tensor, slots: int, size: tuple[int, int], like: Tensor) -> None:
        self._maps = maps
        self.numbers = numbers
        self._slots = slots
        self.size = size
        self._like, self._dtype = like.new_zeros((), dtype=accurate(like)), like.dtype
        self.levels: dict[int, _Level] = {}

    def at(self, level: int, given: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
        """What is seen and where the subjects act at a level, (rows, S) for each subject.

        Args:
            level: How often the UNet has halved the latents.
            given: The user's masks there, each (rows or 1, S) or None.
        """
        if level not in self.levels:
            height, width = size_at(self.size, level)
            shape = (len(self.numbers) // self._slots, height * width)
            seen = [self._like.new_zeros(shape) for _ in range(self._slots)]
            masks = [self._like.new_zeros(shape, dtype=self._dtype) for _ in range(self._slots)]
            self.levels[level] = _Level(seen, masks, given)
            self._fill(self._located(), level)
        return self.levels[level].seen, self.levels[level].masks

    def update(self) -> None:
        """Let the subjects act where their words have been seen until now."""
        if self.levels:
            located = self._located()
            for level in self.levels:
                self._fill(located, level)

    def forget(self) -> None:
        """Nothing has been seen."""
        for level in self.levels.values():
            for seen in level.seen:
                seen.zero_()

    def on_grid(self, grid: tuple[int, int]) -> Tensor:
        """All that has been seen, of all levels: (subjects · rows, h, w)."""
        total = self._like.new_zeros(len(self.numbers), 1, *grid)
        for number, level in self.levels.items():
            seen = torch.cat(level.seen).unflatten(-1, size_at(self.size, number))[:, None]
            total = total + resized(seen, grid)
        return total[:, 0]

    def _located(self) -> Tensor:
        """M of every subject and row, (subjects, rows, h, w)."""
        seen = self._maps.seen(self.size, self._like)[self.numbers]
        return where(seen.unflatten(0, (self._slots, -1)), self.numbers.unflatten(0, (self._slots, -1)))

    def _fill(self, located: Tensor, number: int) -> None:
        level = self.levels[number]
        for mask, given, own in zip(level.masks, level.given, located, strict=True):
            at_queries = resized(own[:, None], size_at(self.size, number)).flatten(1)  # (rows, 1, h, w) -> (rows, S)
            mask.copy_(at_queries if given is None else at_queries * given)


class WordMaps:
    """The maps of one pipeline call.

    A map belongs to a subject in a picture, or in a frame of a video: so it lasts when rows are dropped in mid-run, is
    shared by rows that repeat a picture, and does not depend on which conditions share a call of the UNet.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._groups: list[GroupMaps] = []

    def restart(self) -> None:
        """Forget all that has been seen, as another loop of denoising begins."""
        for group in self._groups:
            group.forget()

    def of_group(self, keys: Sequence[Sequence[Hashable]], size: tuple[int, int], like: Tensor) -> GroupMaps:
        """The maps of a group of rows.

        Args:
            keys: Per subject and row, whose map it is.
            size: Height and width of the UNet's latents.
            like: A tensor on the UNet's device.
        """
        numbers = [self._numbers.setdefault(key, len(self._numbers)) for of_subject in keys for key in of_subject]
        index = torch.tensor(numbers, device=like.device)
        group = GroupMaps(self, index, len(keys), size, like)
        self._groups.append(group)
        return group

    def seen(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """What all groups have seen, (maps, h, w)."""
        grid = grid_of(size)
        total = like.new_zeros(len(self._numbers), *grid)
        for group in self._groups:
            if group.size == size and group.levels:
                total.index_add_(0, group.numbers, group.on_grid(grid))
        return total


def grid_of(size: tuple[int, int]) -> tuple[int, int]:
    """The grid on which maps of all levels are added up: the latents', halved while it is finer than needed."""
    return size if min(size) <= FINEST else grid_of(size_at(size, 1))


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, 1, h, w) on a finer or coarser grid."""
    if size[0] < maps.shape[-2]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear")
