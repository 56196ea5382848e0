"""Where a picture looks for a word (as in DAAM, arXiv 2210.04885)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..injection.word_maps import resized
from .asking import check_picture, check_step, layers_of, mean_of, of_head, positions_of
from .pictures import overlay, picture_of
from .record import CallRecord


@dataclass(frozen=True, eq=False)
class WordMap:
    """Where a picture looks for a word.

    Attributes:
        word: The word, or the positions that were given.
        positions: Its positions in the prompt's embeddings.
        map: (h, w), the attention that the word gets at each place, from 0 to 1; float32 on the CPU.
        picture: The picture that the call returned; None if it returned none, or is still running.
    """

    word: str
    positions: tuple[int, ...]
    map: Tensor
    picture: Image.Image | None

    @property
    def share(self) -> float:
        """The part of all attention that the word gets."""
        return float(self.map.mean())

    def overlay(self, image: Any = None) -> Image.Image:
        """The map as a heat on the picture: the least attention in the map is dark, the most is bright.

        Args:
            image: Another picture than the call's: PIL, array or tensor.

        Raises:
            NestedAdapterError: The call returned no picture, and none is given.
        """
        return overlay(picture_of(image, self.picture), self.map)


def word_map(
    record: CallRecord,
    word: str | int | Sequence[int],
    picture: int,
    layer: str | None,
    step: int | None,
    head: int | None,
) -> WordMap:
    """See ``Trace.word_map``."""
    check_picture(record, picture)
    check_step(record, step)
    positions = positions_of(record, word, picture)
    maps = []
    for path in layers_of(record, layer):
        weights = mean_of(record, "words", path, picture, step=step)  # (S, T) or (H, S, T)
        if weights is not None:
            of_word = of_head(weights[..., list(positions)].sum(-1), head, weights.ndim == 3)
            maps.append(of_word.reshape(record.sizes[path]))
    grid = max((tuple(one.shape) for one in maps), key=lambda size: size[0] * size[1])
    mean = torch.stack([resized(one[None, None], grid)[0, 0] for one in maps]).mean(0)
    name = word if isinstance(word, str) else f"position {', '.join(map(str, positions))}"
    return WordMap(name, positions, mean, record.picture(picture))
