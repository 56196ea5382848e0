"""Cross-attention that can be looked into: what each head reads, and, in training, where and how much it is to read.

In Stable Diffusion most heads rest on the start token and read words a little, and a noun's map, the mean over heads
and layers, lies where its object is. A small UNet that learns quickly finds another way: a few heads that read one word
and nothing else, wherever that helps. Two costs keep it from that: of a noun's map that is not where the renderer drew
the noun's subject, and of reading more than a little in all.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor


class Ledger:
    """What the heads read in one call of the UNet.

    Attributes:
        ceiling: Share of its attention that a head may give to words free of charge.
        floor: Attention that a noun is to get where its subject is, mean over heads.
        words: (B, 77), 1 for the tokens of the sentence and its end, 0 for start and padding; set it before the call.
        unread: (B, 77), 1 for tokens that no head can read; None for none.
        nouns: (N, 2), the rows and positions of nouns, and
        places: (N, 32, 32), where their subjects are; set both before the call, or neither.
        costs: Per layer, the mean square of the log-odds' excess over those of the ceiling.
        misses: Per layer, how far the nouns' maps, mean over heads, are from their subjects' places (Kullback-Leibler),
            and the squares of what the log of their attention there lacks of the floor's.
        weights: Per layer, the attention (B, heads, queries, 77), where ``keep`` is set.
    """

    def __init__(self, keep: bool = False, ceiling: float = 0.4, floor: float = 0.0) -> None:
        self.keep, self.ceiling, self.floor = keep, ceiling, floor
        self.words: Tensor | None = None
        self.unread: Tensor | None = None
        self.nouns: Tensor | None = None
        self.places: Tensor | None = None
        self.costs: dict[str, Tensor] = {}
        self.misses: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}

    def cost(self) -> Tensor:
        """The mean of ``costs`` over layers; they are empty afterwards."""
        return _mean(self.costs)

    def missed(self) -> Tensor:
        """The mean of ``misses`` over layers; they are empty afterwards."""
        return _mean(self.misses)

    def write(self, name: str, weights: Tensor) -> None:
        """Take down what a layer reads: weights (B, H, S, 77)."""
        if self.keep:
            self.weights[name] = weights.detach().float()
        if self.words is not None:
            self.costs[name] = self._price(weights.float(), self.words)
        if self.nouns is not None:
            self.misses[name] = self._miss(weights)

    def _price(self, weights: Tensor, words: Tensor) -> Tensor:
        read = (weights * words[:, None, None]).sum(-1)  # (B, H, S); in float32 also under autocast
        odds = read.clamp(1e-4, 1 - 1e-3).logit()
        return (odds - math.log(self.ceiling / (1 - self.ceiling))).relu().square().mean()

    def _miss(self, weights: Tensor) -> Tensor:
        assert self.nouns is not None and self.places is not None
        rows, at = self.nouns.unbind(1)
        maps = weights.float()[rows, :, :, at].mean(1)  # (N, S)
        side = int(maps.shape[-1] ** 0.5)
        places = F.adaptive_avg_pool2d(self.places[:, None], side).flatten(1)  # (N, S)
        places = places / places.sum(1, keepdim=True)
        there = (maps * places).sum(1).clamp(min=1e-6)
        lack = (math.log(self.floor) - there.log()).relu() if self.floor else torch.zeros(())
        maps = (maps / maps.sum(1, keepdim=True)).clamp(min=1e-6)
        missed = (torch.special.xlogy(places, places) - places * maps.log()).sum(1)
        return (missed + lack.square()).mean()


def _mean(parts: dict[str, Tensor]) -> Tensor:
    total = torch.stack(list(parts.values())).mean()
    parts.clear()
    return total


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
        mask = self._ledger.unread
        if mask is not None:  # (B, 77) -> (B · H, 1, 77)
            mask = (-1e4 * mask.to(query.dtype)).repeat_interleave(attn.heads, 0)[:, None]
        weights = attn.get_attention_scores(query, key, mask)  # (B · H, S, 77)
        self._ledger.write(self._name, weights.unflatten(0, (len(hidden_states), attn.heads)))
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
