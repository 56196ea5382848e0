"""A cross-attention layer of diffusers from the inside: its heads, its output, a group of its rows."""

from typing import Any

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from .binding import LayerGroup


def to_heads(
    attn: Attention, hidden_states: Tensor, text: Tensor, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Query (B, H, S, d), key and value (B, H, T, d) of a layer, and its mask (B, H, 1, T)."""
    if attn.norm_cross is not None:
        text = attn.norm_encoder_hidden_states(text)
    layer: Any = attn  # whose to_k and to_v are None in layers with added projections only, which these are not
    projected = (layer.to_q(hidden_states), layer.to_k(text), layer.to_v(text))
    # (B, L, H · d) -> (B, H, L, d)
    query, key, value = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in projected)
    if attention_mask is not None:
        mask = attn.prepare_attention_mask(attention_mask, text.shape[1], len(text))
        attention_mask = mask.unflatten(0, (len(text), attn.heads))
    return query, key, value, attention_mask


def attend_group(group: LayerGroup, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """What the group's rows read, by the subjects' mechanism: (rows, H, S, d)."""
    query, key, value, mask = at_rows(group.rows, query, key, value, mask)
    return group.mechanism.attend(query, key, value, group.subjects, mask)


def attend_plainly(rows: Tensor | None, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """What some rows read of the prompt, as in the stock processor: (rows, H, S, d)."""
    return F.scaled_dot_product_attention(*at_rows(rows, query, key, value, mask))


def at_rows(rows: Tensor | None, *tensors: Any) -> Any:
    """Some rows of tensors of which any may be None; all rows if ``rows`` is None."""
    return [x if x is None or rows is None else x.index_select(0, rows) for x in tensors]


def project_out(attn: Attention, out: Tensor) -> Tensor:
    """The layer's output projection: (B, H, S, d) -> (B, S, C)."""
    out = out.transpose(1, 2).flatten(2)  # (B, H, S, d) -> (B, S, H · d)
    for module in out_layers(attn):
        out = module(out)
    return out / attn.rescale_output_factor


def out_layers(attn: Attention) -> nn.ModuleList:
    """The output projection and its dropout."""
    assert isinstance(attn.to_out, nn.ModuleList)  # only attention without an output projection has none
    return attn.to_out
