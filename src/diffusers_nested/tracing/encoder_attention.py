"""Where the learned queries of a subject encoder look: its own attention over an image's features."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter.ip_encoders import Resampler
from ..adapter.qformer import QFormer
from ..errors import NestedAdapterError


def encoder_attention(encoder: nn.Module, features: Tensor) -> Tensor:
    """How much each query reads of each feature: (B, N, L), the mean of all heads and layers.

    Args:
        encoder: A Q-Former or a resampler.
        features: Image features, (B, L, D).

    Raises:
        NestedAdapterError: The encoder has no queries that read features.
    """
    attentions = _attentions(encoder)
    with torch.no_grad(), _caught(*[module for query, key, _ in attentions for module in (query, key)]) as caught:
        encoder(features)
    found = []
    for i, (_, _, heads) in enumerate(attentions):
        # (B, L, H · d) -> (B, H, L, d)
        query, key = (x.float().unflatten(-1, (heads, -1)).transpose(1, 2) for x in caught[2 * i : 2 * i + 2])
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1).mean(1)
        found.append(weights[..., : features.shape[1]])  # a resampler's queries also read each other
    return torch.stack(found).mean(0)


def _attentions(encoder: nn.Module) -> list[tuple[nn.Module, nn.Module, int]]:
    """The modules that give queries and keys in every layer, with the number of heads."""
    model: Any = encoder
    if isinstance(encoder, QFormer):
        layers = [one.crossattention.attention for one in model.qformer.encoder.layer if one.has_cross_attention]
        return [(one.query, one.key, one.num_attention_heads) for one in layers]
    if isinstance(encoder, Resampler):
        return [(one.attn.to_q, one.attn.to_k, one.attn.heads) for one in model.layers]
    raise NestedAdapterError(
        f"The adapter's encoder, {type(encoder).__name__}, has no queries that look at places of a photo. Adapters "
        "with a Q-Former and IP-Adapter's plus files have them."
    )


@contextmanager
def _caught(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of modules, in their order, once they have run."""
    caught: list[Tensor] = [torch.empty(0)] * len(modules)

    def catch(i: int, module: nn.Module, args: Any, output: Tensor) -> None:
        caught[i] = output

    hooks = [module.register_forward_hook(partial(catch, i)) for i, module in enumerate(modules)]
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()
