"""Captions of which only the subjects are left, for examples whose caption is dropped."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..data import Words
from .samples import SampleEncoder


class BareCaptions:
    """The embeddings of these captions; there are few of them.

    Args:
        captions: Words of subjects -> the caption that holds nothing else.
        encoder: Encodes them.
    """

    def __init__(self, captions: Mapping[Words, str], encoder: SampleEncoder) -> None:
        self._known: dict[Words, tuple[Tensor, Tensor, Tensor]] = {}
        for words, caption in captions.items():
            embeds, pooled = encoder.encode_captions([caption])
            positions = encoder.positions([(caption, word) for word in words], embeds.shape[1])
            self._known[words] = embeds, pooled, positions.to(embeds.device)

    def prompts(self, words: Sequence[Words]) -> tuple[Tensor, Tensor]:
        """Embeddings (B, T, D) and (B, P), given the words of each example's subjects."""
        embeds, pooled, _ = zip(*(self._known[each] for each in words), strict=True)
        return torch.cat(embeds), torch.cat(pooled)

    def positions(self, words: Sequence[Words]) -> Tensor:
        """Where the subjects stand in them, (M, T)."""
        return torch.cat([self._known[each][2] for each in words])
