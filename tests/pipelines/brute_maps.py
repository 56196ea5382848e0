"""Where words are, by the rule in the documentation, pixel by pixel: for the mechanism "located"."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIDE = 8  # of the tiny UNet's latents


class BruteMaps:
    """The maps of one call, by picture and subject. Rows of the same picture have the same list of subjects."""

    def __init__(self):
        self.pictures: list[list[Any]] = []
        self.seen: dict[tuple[int, int], np.ndarray] = {}
        self.words: dict[tuple[int, int], list[int]] = {}
        self.places: dict[tuple[int, int], np.ndarray] = {}
        self.paths: set[str] = set()

    def located(self, path: str, attn: Any, query: Tensor, key: Tensor, rows: list[list[Any]]) -> list[list[Any]]:
        """The subjects of each row with their masks in this layer, which adds to the maps what it sees."""
        if path in self.paths:  # so another call of the UNet has begun
            self.paths = set()
            self.places = {mine: where(self.seen, self.words, mine) for mine in self.seen}
        self.paths.add(path)
        return [
            [self.masked(path, attn, query[i], key[i], (self.picture(row), j), one) for j, one in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    def picture(self, row: list[Any]) -> int:
        """Its number; what its subjects are does not matter."""
        found = [i for i, known in enumerate(self.pictures) if known is row]
        if not found:
            self.pictures.append(row)
        return found[0] if found else len(self.pictures) - 1

    def masked(self, path: str, attn: Any, query: Tensor, key: Tensor, mine: tuple[int, int], one: Any) -> Any:
        if one.mechanism != "located":
            return one
        self.words[mine] = list(one.positions)
        side, d = round(len(query) ** 0.5), query.shape[-1] // attn.heads
        total = np.zeros((side, side))
        for h in range(attn.heads):
            part = slice(h * d, h * d + d)
            weights = (query[:, part] @ key[:, part].T / d**0.5).softmax(-1)
            total += weights[:, list(one.positions)].sum(1).double().detach().numpy().reshape(side, side)
        if path.startswith("up_blocks"):
            self.seen[mine] = self.seen.get(mine, 0) + grow(total)
        place = self.places.get(mine, np.full((SIDE, SIDE), 0.5))
        step = SIDE // side
        mask = torch.tensor(place.reshape(side, step, side, step).mean((1, 3)).flatten(), dtype=query.dtype)
        given = None if one.masks is None else one.masks[len(query)]
        return replace(one, masks={len(query): mask if given is None else mask * given})


def grow(small: np.ndarray) -> np.ndarray:
    """Each pixel of the large map between the centres of the four nearest of the small one."""
    side = len(small)
    large = np.zeros((SIDE, SIDE))
    at = [min(max((i + 0.5) * side / SIDE - 0.5, 0), side - 1) for i in range(SIDE)]
    for i, y in enumerate(at):
        for j, x in enumerate(at):
            top, left = int(y), int(x)
            low, right = min(top + 1, side - 1), min(left + 1, side - 1)
            upper = small[top, left] * (1 - x + left) + small[top, right] * (x - left)
            lower = small[low, left] * (1 - x + left) + small[low, right] * (x - left)
            large[i, j] = upper * (1 - y + top) + lower * (y - top)
    return large


def standing_out(seen: np.ndarray) -> np.ndarray:
    """The smoothed map, with 0 for the mean of its lower values and 1 for that of its higher ones."""
    smooth = np.zeros_like(seen)
    for i in range(SIDE):
        for j in range(SIDE):
            for down, much in ((-1, 0.25), (0, 0.5), (1, 0.25)):
                for right, more in ((-1, 0.25), (0, 0.5), (1, 0.25)):
                    y, x = min(max(i + down, 0), SIDE - 1), min(max(j + right, 0), SIDE - 1)
                    smooth[i, j] += much * more * seen[y, x]
    # of all ways to cut the values in two, the one that leaves the least variance within the parts
    splits = [(smooth[smooth <= cut], smooth[smooth > cut]) for cut in np.unique(smooth)[:-1]]
    low, high = min(splits, key=lambda parts: sum(((part - part.mean()) ** 2).sum() for part in parts))
    apart = max(high.mean() - low.mean(), smooth.mean() / 10)
    return (smooth - (low.mean() + high.mean()) / 2) / apart + 0.5


def where(
    seen: dict[tuple[int, int], np.ndarray], words: dict[tuple[int, int], list[int]], mine: tuple[int, int]
) -> np.ndarray:
    """M of one picture and subject: one half at 0.4 of the way, 0 and 1 at 0.25 from there."""
    above = own = standing_out(seen[mine])
    for rival in (other for other in seen if other[0] == mine[0] and words[other] != words[mine]):
        above = np.minimum(above, own - standing_out(seen[rival]) + 0.4)
    return np.clip((above - 0.4) / 0.5 + 0.5, 0, 1)
