"""Putting our processors into a UNet, and taking them out without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from ..backbones import cross_attention_layers, layer_levels
from ..errors import ProcessorReplacedError
from .binding import RowGroup
from .gate import Gate
from .processor import NestedAttnProcessor, is_replaceable
from .wrap import unwrap_processor, wrap_processor


class NestedInjector:
    """Lets subjects act in a UNet's cross-attention layers, from ``inject`` to ``eject``.

    Ejecting puts back the very processor objects that stood there. While nothing is bound, they do all
    the work, so that an injected UNet computes exactly what it computed before.

    Attributes:
        gate: Through which the calls of pipelines reach the UNet.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._processors: dict[str, Any] = {}
        self.gate = Gate(self._post)

    @property
    def is_injected(self) -> bool:
        """Whether the processors are in place."""
        return bool(self._processors)

    def inject(self) -> None:
        """Put a processor on every cross-attention layer; does nothing a second time."""
        if self._processors:
            return
        layers = cross_attention_layers(self._unet)
        self._levels = layer_levels(self._unet)
        self._heads = {path: layer.heads for path, layer in layers.items()}
        for path, layer in layers.items():
            ours = NestedAttnProcessor if is_replaceable(layer) else wrap_processor
            self._processors[path] = ours(layer.processor)
            layer.set_processor(self._processors[path])

    def eject(self) -> None:
        """Put the original processors back; a processor that somebody else has set since stays."""
        layers = cross_attention_layers(self._unet)
        for path, ours in self._processors.items():
            stands = layers[path].processor is ours
            original = ours.original if isinstance(ours, NestedAttnProcessor) else unwrap_processor(ours)
            if stands:
                layers[path].set_processor(original)
        self._processors = {}

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """The UNet as it is without us, for what replaces its processors; ours return around what it leaves."""
        self.eject()
        try:
            yield
        finally:
            self.inject()

    def check_in_place(self) -> None:
        """Raise if something took our processors out.

        Raises:
            ProcessorReplacedError: Names the layers and what stands there now.
        """
        layers = cross_attention_layers(self._unet)
        lost = {p: layers[p].processor for p, ours in self._processors.items() if layers[p].processor is not ours}
        if lost:
            path, found = next(iter(lost.items()))
            raise ProcessorReplacedError(
                f"{len(lost)} of {len(self._processors)} cross-attention layers no longer have the nested adapter's "
                f"processor; {path} has {_describe(found)}. {_remedy(found)}"
            )

    @contextmanager
    def bound(self, group: RowGroup) -> Iterator[None]:
        """Let a group of all rows act in every forward pass inside; for training, where rows are known."""
        self._post([(group, [True] * len(group.steps))])
        try:
            yield
        finally:
            self._post([])

    def _post(self, groups: Sequence[tuple[RowGroup, list[bool]]]) -> None:
        """Tell every processor the groups of rows that act in its layer."""
        for path, processor in self._processors.items():
            layer = (path, self._heads[path], self._levels[path])
            acting = (group.at_layer(*layer, now) for group, now in groups)
            processor.acting = tuple(one for one in acting if one is not None)


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
