"""Putting our processors into a UNet, and taking them out without a trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from ..errors import ProcessorReplacedError
from ..layers import cross_attention_layers
from .binding import CallBinding, RowGroup
from .processor import Board, NestedAttnProcessor, NestedWrapProcessor, is_replaceable


class NestedInjector:
    """Lets subjects act in a UNet's cross-attention layers, from ``inject`` to ``eject``.

    Ejecting puts back the very processor objects that stood there. While nothing is bound, they do all
    the work, so that an injected UNet computes exactly what it computed before.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._board = Board()
        self._processors: dict[str, NestedAttnProcessor] = {}

    @property
    def is_injected(self) -> bool:
        """Whether the processors are in place."""
        return bool(self._processors)

    def inject(self) -> None:
        """Put a processor on every cross-attention layer; does nothing a second time."""
        if self._processors:
            return
        for path, layer in cross_attention_layers(self._unet).items():
            kind = NestedAttnProcessor if is_replaceable(layer) else NestedWrapProcessor
            self._processors[path] = kind(path, layer.processor, self._board)
        for path, layer in cross_attention_layers(self._unet).items():
            layer.set_processor(self._processors[path])  # pyright: ignore[reportArgumentType]

    def eject(self) -> None:
        """Put the original processors back; a processor that somebody else has set since stays."""
        for path, layer in cross_attention_layers(self._unet).items():
            ours = self._processors.get(path)
            if ours is not None and layer.processor is ours:
                layer.set_processor(ours.original)
        self._processors = {}

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
    def bound(self, groups: tuple[RowGroup, ...]) -> Iterator[None]:
        """Let groups of rows act in every forward pass inside; for training, where rows are known."""
        self._board.groups = groups
        try:
            yield
        finally:
            self._board.groups = ()

    @contextmanager
    def bound_by_content(self, binding: Callable[[], CallBinding], unet: nn.Module) -> Iterator[None]:
        """Let a call's subjects act on the rows that carry its prompts.

        Args:
            binding: Gives the call's subjects, when the UNet is reached.
            unet: The module that the pipeline calls: the UNet or what wraps it.
        """

        def post(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[2]
            self._board.groups = binding().groups(states)

        hook = unet.register_forward_pre_hook(post, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            self._board.groups = ()


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
