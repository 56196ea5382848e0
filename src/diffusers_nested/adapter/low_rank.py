"""Adapters whose projections are low-rank parts of the UNet's own keys and values."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ..backbones import cross_attention_layers, key_value_weights
from ..errors import AdapterLoadError, NestedAdapterError
from ..mechanisms import get_mechanism, low_rank_parts
from .loading import LoadableModel

_SAME = 0.01  # largest difference of one UNet's weights in two types, in units of their norm


class LowRankModel(LoadableModel):
    """A model whose projections may be of low rank.

    Attributes:
        projections: Holds a projection at the path of every layer; empty if the mechanism has none.
    """

    projections: nn.Module

    @property
    def needs_base(self) -> bool:
        """Whether it lacks the UNet's weights that its low-rank projections add to."""
        return any(part.weight is None for part in low_rank_parts(self.projections))

    def read_base(self, unet: nn.Module) -> None:
        """Take a copy of the UNet's own keys and values, which low-rank projections add to; others do not change.

        LoRA in the UNet does not count, unless it is merged, which is an error. Fused weights are so again low-rank.

        Raises:
            AdapterLoadError: The adapter does not fit the UNet.
            NestedAdapterError: The UNet's weights are quantised, or merged with LoRA.
        """
        self.check_fits(unet)
        if low_rank_parts(self.projections):
            copy_own_weights(self._projections, unet)

    @torch.no_grad()
    def check_base(self, unet: nn.Module) -> None:
        """Raise if low-rank projections have the keys and values of another UNet, by those of the first layer.

        Those of a UNet that are quantised, or merged with LoRA, cannot be compared, and are not.

        Raises:
            AdapterLoadError: They have.
        """
        path, projection = next(iter(self._projections.items()), ("", nn.Module()))
        parts = low_rank_parts(projection)
        if not parts:
            return
        fresh = deepcopy(projection)
        try:
            copy_own_weights({path: fresh}, unet)
        except NestedAdapterError:
            return
        for part, own in zip(parts, (one.base() for one in low_rank_parts(fresh)), strict=True):
            if torch.dist(part.base().to(own.device), own) > _SAME * own.norm():
                raise AdapterLoadError(
                    "The adapter's low-rank projections add to the keys and values of another UNet: those of "
                    f"{path} differ. Call adapter.read_base(pipe.unet), or load the adapter from its folder."
                )

    def fuse(self) -> None:
        """Make low-rank projections dense in memory, for inference; what ``save_pretrained`` writes stays the same.

        Raises:
            NestedAdapterError: The UNet's weights that they add to are unknown; see ``read_base``.
        """
        if self.needs_base:
            raise NestedAdapterError(
                "The adapter's low-rank projections cannot be fused without the UNet's weights. Call "
                "adapter.read_base(unet) first."
            )
        for part in low_rank_parts(self.projections):
            part.fuse()

    @property
    def _projections(self) -> dict[str, Any]:
        """Layer path -> projection; empty if the mechanism has none."""
        has_any = get_mechanism(self.config["mechanism"]).projection is not None
        return {path: self._projection(path) for path in self.config["layers"]} if has_any else {}

    def _projection(self, path: str) -> Any:
        return self.projections.get_submodule(path)


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
