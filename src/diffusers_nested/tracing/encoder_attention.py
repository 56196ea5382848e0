"""Where the learned queries of a subject encoder look: its own attention over an image's features."""

from collections.abc import Iterator
from contextlib import contextmanager
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
    total, attentions = None, _attentions(encoder)
    for query, key, heads in attentions:
        with torch.no_grad(), _caught(query, key) as caught:
            encoder(features)
        q, k = (x.float().unflatten(-1, (heads, -1)).transpose(1, 2) for x in caught)  # (B, L, H · d) -> (B, H, L, d)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)
        weights = weights[..., : features.shape[1]]  # a resampler's queries also read each other
        total = weights if total is None else total + weights
    assert total is not None  # every encoder has a layer
    return total / len(attentions)


def _attentions(encoder: nn.Module) -> list[tuple[nn.Module, nn.Module, int]]:
    """The modules that give queries and keys in every layer, with the number of heads."""
    model: Any = encoder
    if isinstance(encoder, QFormer):
        layers = [one.crossattention.attention for one in model.qformer.encoder.layer if one.has_cross_attention]
        return [(one.query, one.key, one.num_attention_heads) for one in layers]
    if isinstance(encoder, Resampler):
        return [(one.attn.to_q, one.attn.to_k, one.attn.heads) for one in model.layers]
    raise NestedAdapterError(
        f"The adapter's encoder, {type(encoder).__name__}, has no queries that look at places of a photo. Adapters with "
        "a Q-Former and IP-Adapter's plus files have them."
    )


@contextmanager
def _caught(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of modules, in their order, once they have run."""
    caught: list[Tensor] = [torch.empty(0)] * len(modules)
    hooks = []
    for i, module in enumerate(modules):
        hooks.append(module.register_forward_hook(lambda _, args, output, i=i: caught.__setitem__(i, output)))
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()
