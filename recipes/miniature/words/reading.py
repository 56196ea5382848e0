"""Cross-attention that can be looked into: what each head reads, and, in training, what reading costs.

In Stable Diffusion most heads rest on the start token and read words a little. A small UNet that learns quickly finds
another way, a few heads that read one word and nothing else. A price on reading more than a little keeps it from that:
what a head takes from words can be made up for by larger values, so softness costs nothing but the way there.
"""

from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor

FREE = 0.2  # share of its attention that a head may give to words free of charge
SOFT = 0.4  # share that it may give to one token


class Ledger:
    """What the heads read in one call of the UNet.

    Attributes:
        words: (B, 77), 1 for the tokens of the sentence and its end, 0 for start and padding; set it before the call.
        least: Share that a head is to give to words on the mean over queries.
        free: Share that a head may give to words free of charge.
        hardness: Price of the square of what a head gives to one token above ``SOFT``, relative to that of reading.
        costs: Per layer, the mean squares of what was read above ``free``, of what heads lack of ``least``, and of
            hardness.
        weights: Per layer, the attention (B, heads, queries, 77), where ``keep`` is set.
    """

    def __init__(self, keep: bool = False, least: float = 0.0, free: float = FREE, hardness: float = 0.0) -> None:
        self.keep, self.least, self.free, self.hardness = keep, least, free, hardness
        self.words: Tensor | None = None
        self.costs: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}

    def cost(self) -> Tensor:
        """The mean over layers; the ledger is empty afterwards."""
        total = torch.stack(list(self.costs.values())).mean()
        self.costs.clear()
        return total

    def price(self, weights: Tensor, words: Tensor) -> Tensor:
        """Of what every head and query gives to words: weights (B, H, S, 77) and ``words`` (B, 77)."""
        read = (weights @ words[:, None, :, None]).squeeze(-1)  # (B, H, S)
        cost = (read - self.free).relu().square().mean()
        if self.least:
            cost = cost + (self.least - read.mean(-1)).relu().square().mean()
        if self.hardness:
            most = (weights * words[:, None, None]).amax(-1)  # (B, H, S)
            cost = cost + self.hardness * (most - SOFT).relu().square().mean()
        return cost


class Reader(AttnProcessor):
    """A cross-attention layer of SDXL, computed as ever, and written down."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        super().__init__()
        self._name, self._ledger = name, ledger

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **more) -> Tensor:
        """The layer's output (B, queries, channels)."""
        query, key, value = (
            attn.head_to_batch_dim(part)
            for part in (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        )
        weights = attn.get_attention_scores(query, key)  # (B · H, S, 77)
        by_head = weights.unflatten(0, (len(hidden_states), attn.heads))
        ledger = self._ledger
        if ledger.keep:
            ledger.weights[self._name] = by_head.detach().float()
        if ledger.words is not None:
            ledger.costs[self._name] = ledger.price(by_head.float(), ledger.words)
        out = attn.batch_to_head_dim(torch.bmm(weights, value))
        return attn.to_out[1](attn.to_out[0](out))


def install(unet: UNet2DConditionModel, ledger: Ledger) -> None:
    """Let all cross-attention of the UNet write to the ledger; self-attention gets an explicit softmax, too."""
    names: Mapping[str, object] = unet.attn_processors
    unet.set_attn_processor({name: Reader(name, ledger) if "attn2" in name else AttnProcessor() for name in names})


def sentences(ids: Tensor, end: int) -> Tensor:
    """(B, 77): 1 for the tokens of a sentence and its end, 0 for the start token and what follows the end."""
    after = (ids == end).cumsum(1)
    words = (after == 0) | ((after == 1) & (ids == end))
    words[:, 0] = False
    return words.float()
