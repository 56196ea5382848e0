"""A training set encoded once, in memory or in a folder of shards."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .encoded import Encoded
from .encoded_shards import EncodedSet, shared
from .samples import RawExamples, SampleEncoder, Samples


class Cache:
    """All examples of a training set, encoded.

    Args:
        raw: The training set.
        encoder: Encodes it.
        folder: Where the shards are, or will be: each process writes its share of those that are missing. Without a
            folder, each process encodes everything and keeps it in memory.
        accelerator: Tells which process this is; all of a run must make a cache at the same time.

    Raises:
        NestedAdapterError: The folder holds another training set, or one that other models encoded.
    """

    def __init__(self, raw: RawExamples, encoder: SampleEncoder, folder: Path | None, accelerator: Any) -> None:
        whole = EncodedSet(raw, encoder)
        if folder is None:
            parts = dict(whole.encode(whole.names, accelerator.is_main_process))
        else:
            parts = shared(whole, folder, accelerator)
        self._examples = [part for name, part in parts.items() if name.startswith("examples")]
        self._captions = [part for name, part in parts.items() if name.startswith("captions")]
        self._size, self._caption, self._placed, self._encoder = whole.size, whole.caption, whole.placed, encoder
        self._device = next(encoder.frozen.unet.parameters()).device
        sizes = [map(math.prod, part["shapes"].tolist()) for part in self._examples]
        self._latents = [list(accumulate(one, initial=0)) for one in sizes]
        self._subjects = list(accumulate(map(len, self._placed), initial=0))

    def samples(self, indices: Sequence[int]) -> Samples:
        """The examples with these indices, on the models' device in float32."""
        own = [self._of_example(i) for i in indices]
        embeds, pooled = (torch.stack(column) for column in zip(*map(self._of_caption, indices), strict=True))
        placed = [one for i in indices for one in self._placed[i]]
        columns = {name: [part[name] for part in own] for name in ("latents", "frames", "features")}
        return Samples(
            latents=self._ready(torch.stack(columns["latents"])),
            prompt_embeds=self._ready(embeds),
            pooled=self._ready(pooled),
            positions=self._ready(self._encoder.positions(placed, embeds.shape[1])),
            features=self._ready(torch.cat(columns["features"])),
            frames=self._ready(torch.stack(columns["frames"])),
            words=tuple(tuple(word for _, word in self._placed[i]) for i in indices),
        )

    def _of_example(self, index: int) -> Encoded:
        """Latents (C, h, w), frame (6,) and features (M, L, F) of an example with M subjects."""
        shard, row = divmod(index, self._size)
        part, ends = self._examples[shard], self._latents[shard]
        first = self._subjects[shard * self._size]
        return {
            "latents": part["latents"][ends[row] : ends[row + 1]].view(part["shapes"][row].tolist()),
            "frames": part["frames"][row],
            "features": part["features"][self._subjects[index] - first : self._subjects[index + 1] - first],
        }

    def _of_caption(self, index: int) -> tuple[Tensor, Tensor]:
        shard, row = divmod(self._caption[index], self._size)
        return self._captions[shard]["prompt_embeds"][row], self._captions[shard]["pooled"][row]

    def _ready(self, x: Tensor) -> Tensor:
        return x.to(self._device).float()
