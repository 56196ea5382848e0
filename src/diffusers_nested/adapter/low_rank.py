"""Adapters whose projections are low-rank parts of the UNet's own keys and values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..backbones import cross_attention_layers, key_value_weights
from ..mechanisms import low_rank_parts


@torch.no_grad()
def copy_own_weights(projections: Mapping[str, Any], unet: nn.Module) -> None:
    """Give every layer's projection the UNet's own keys and values: dense ones begin there, low-rank ones add to them.

    Args:
        projections: Layer path -> projection.
        unet: A UNet that they fit.

    Raises:
        NestedAdapterError: The UNet's weights cannot be read; nothing has changed then.
    """
    layers = cross_attention_layers(unet)
    read = {path: key_value_weights(layers[path], path) for path in projections}
    for path, projection in projections.items():
        for part in low_rank_parts(projection):
            part.make_room()
        projection.copy_from(*read[path])


@torch.no_grad()
def take_over(projections: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Bring other projections into a form of another rank.

    What is carried over is the difference from the UNet's own weights: whole into dense projections, and its best
    approximation into low-rank ones.

    Args:
        projections: Layer path -> projection with the UNet's own weights, as ``copy_own_weights`` gives them.
        others: The same of the other adapter.
    """
    for path, projection in projections.items():
        for name, part in projection.named_children():
            other = others[path].get_submodule(name)
            if low_rank_parts(other):
                difference = other.difference().to(part.weight.device)
            else:
                difference = other.weight.to(part.weight.device, torch.float32) - part.weight
            if low_rank_parts(part):
                part.approximate(difference)
            else:
                part.weight.add_(difference)
