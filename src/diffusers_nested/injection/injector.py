"""Prepares a UNet's layers for subjects, and leaves them without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn

from ..backbones import cross_attention_layers, layer_levels
from ..errors import ProcessorReplacedError
from .beside import Beside
from .gate import Gate
from .groups import RowGroup
from .processor import Replaced, is_replaceable


@dataclass(frozen=True, eq=False)
class _Site:
    """A layer in which subjects act."""

    layer: Attention
    level: int  # how often the UNet has halved the latents there
    way: Replaced | Beside


class NestedInjector:
    """Lets subjects act in a UNet's cross-attention layers, from ``inject`` to ``eject``.

    While no subject acts, the original processors do all the work, so an injected UNet computes exactly what it
    did before. Ejecting leaves the very same objects in the UNet.

    Attributes:
        gate: Lets the calls of pipelines through to the UNet.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._sites: dict[str, _Site] = {}
        self.gate = Gate(self._post)

    def inject(self) -> None:
        """Prepare every cross-attention layer; does nothing a second time."""
        if self._sites:
            return
        levels = layer_levels(self._unet)
        for path, layer in cross_attention_layers(self._unet).items():
            way = Replaced if is_replaceable(layer) else Beside
            self._sites[path] = _Site(layer, levels[path], way(layer))

    def eject(self) -> None:
        """Leave the UNet as it was; a processor set by somebody else since then stays."""
        for site in self._sites.values():
            site.way.remove()
        self._sites = {}

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Eject for a while, so that something else may replace processors; inject again afterwards."""
        self.eject()
        try:
            yield
        finally:
            self.inject()

    @property
    def is_in_place(self) -> bool:
        """Whether every layer still has what ``inject`` gave it; of layers that the UNet has lost, it does not know."""
        return bool(self._sites) and all([site.way.is_in_place for site in self._sites.values()])

    def check_in_place(self) -> None:
        """Raise if something has undone the injection in a layer.

        Raises:
            ProcessorReplacedError: Names a layer and the processor found there.
        """
        if not self._sites:
            raise ProcessorReplacedError(
                "The nested adapter's processors are out of the UNet: another thread is loading or unloading an "
                "IP-Adapter. Let it do so before or after the call."
            )
        present = set(self._unet.modules())
        lost = {p: s.layer for p, s in self._sites.items() if s.layer not in present or not s.way.is_in_place}
        if lost:
            path, layer = next(iter(lost.items()))
            found = layer.processor if layer in present else None
            raise ProcessorReplacedError(
                f"{len(lost)} of {len(self._sites)} cross-attention layers no longer have the nested adapter's "
                f"processor; {path} has {_describe(found)}. {_remedy(found)}"
            )

    @contextmanager
    def bound(self, *groups: RowGroup) -> Iterator[None]:
        """Let groups act in every forward pass inside; for training, where all rows have subjects."""
        self._post([(group, [True] * len(group.kinds)) for group in groups])
        try:
            yield
        finally:
            self._post([])

    def _post(self, groups: Sequence[tuple[RowGroup, list[bool]]]) -> None:
        """Tell every layer which groups of rows act in it."""
        for path, site in self._sites.items():
            acting = []
            for group, now in groups:
                one = group.at_layer(path, site.level, now)
                if one is not None:
                    acting.append(one)
            site.way.act(tuple(acting))


def _describe(processor: Any) -> str:
    return type(processor).__name__


def _remedy(processor: Any) -> str:
    cause = {
        "SlicedAttnProcessor": "Attention slicing is on: pipe.disable_attention_slicing(), then",
        "XFormersAttnProcessor": "xformers is on: pipe.disable_xformers_memory_efficient_attention(), then",
        "FusedAttnProcessor2_0": "The projections were fused: pipe.unfuse_qkv_projections(), then",
    }.get(type(processor).__name__, "Something set other processors after the adapter was loaded:")
    if type(processor) is AttnProcessor2_0:
        cause = "The processors were reset after the adapter was loaded:"
    return f"{cause} unload_nested_adapter() and load it again."
