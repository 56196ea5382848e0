"""Subjects beside a processor that we cannot replace: IP-Adapter's, or one of the user's own.

The processor stays in place. Its layer gets a subclass of its own class, which adds the difference that the subjects
make to plain text attention, W_o (A_λ V_q − A V). This works with any processor.

(A forward hook would do the same, but a layer compiled before the hook was registered never calls it.)
"""

from typing import Any

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from .groups import LayerGroup
from .processor import NestedAttnProcessor, at_rows, attend_group, check_batch, out_layers, to_heads
from .swap import swap_back, swap_in


class ActingLayer:
    """Mixed into a layer's class: adds what the subjects change to the layer's output.

    Attributes:
        acting: The groups of rows on which subjects act in this layer and this call of the UNet.
    """

    acting: tuple[LayerGroup, ...]

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output, (B, S, C)."""
        out = super().__call__(hidden_states, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        return _with_subjects(self, out, hidden_states, *args, **kwargs) if self.acting else out


class Beside:
    """Lets subjects act in a layer beside its processor.

    Args:
        layer: A cross-attention layer, changed until ``remove``.
    """

    def __init__(self, layer: Attention) -> None:
        self._layer = layer
        self._processor = layer.processor
        swap_in(layer, ActingLayer)
        self.act(())

    @property
    def is_in_place(self) -> bool:
        """Whether the layer still has our class and the same processor."""
        return isinstance(self._layer, ActingLayer) and self._layer.processor is self._processor

    def act(self, groups: tuple[LayerGroup, ...]) -> None:
        """Let these groups of rows act from now on."""
        vars(self._layer)["acting"] = groups

    def remove(self) -> None:
        """Leave the layer as it was; a processor set by somebody else since then stays."""
        swap_back(self._layer)
        vars(self._layer).pop("acting", None)  # gone already if another UNet has the layer too


def acting_in(layer: Any) -> tuple[LayerGroup, ...]:
    """The groups of rows on which subjects act in a layer, in the call of the UNet that is running."""
    holder = layer if isinstance(layer, ActingLayer) else layer.processor
    return holder.acting if isinstance(holder, ActingLayer | NestedAttnProcessor) else ()


def _with_subjects(
    layer: Any,
    out: Tensor,
    hidden_states: Tensor,
    /,  # a processor may take keywords of any name
    encoder_hidden_states: Any = None,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    if encoder_hidden_states is None:
        return out
    # IP-Adapter passes (prompt, image tokens)
    text = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
    check_batch(layer.acting, text)
    for group in layer.acting:
        out = _with_difference(out, group, layer, hidden_states, text, attention_mask)
    return out


def _with_difference(
    out: Tensor, group: LayerGroup, attn: Attention, hidden_states: Tensor, text: Tensor, mask: Tensor | None
) -> Tensor:
    """The output (B, S, C) with W_o (A_λ V_q − A V) added in the group's rows."""
    hidden_states, text, mask = at_rows(group.rows, hidden_states, text, mask)
    query, key, value, mask = to_heads(attn, hidden_states, text, mask)
    plain = F.scaled_dot_product_attention(query, key, value, mask)
    delta = attend_group(attn, group, query, key, value, mask) - plain
    delta = delta.transpose(1, 2).flatten(2)  # (rows, H, S, d) -> (rows, S, H · d)
    linear = out_layers(attn)[0]
    change = linear(delta) - linear(delta.new_zeros(1, 1, delta.shape[-1]))  # without the bias
    change = (change / attn.rescale_output_factor).to(out.dtype)
    if isinstance(group.rows, tuple):
        first, end = group.rows
        return out.slice_scatter(out[first:end] + change, 0, first, end)
    return out + change if group.rows is None else out.index_add(0, group.rows, change)
