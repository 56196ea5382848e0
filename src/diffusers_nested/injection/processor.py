"""The attention processors that let bound subjects act; they own no weights."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from .binding import RowGroup, subject_values


class Board:
    """Where a call posts its groups of rows for all processors of a UNet; empty outside of calls."""

    def __init__(self) -> None:
        self.groups: tuple[RowGroup, ...] = ()


class NestedAttnProcessor:
    """Takes the place of a stock processor: its rows as before, a subject's rows by the mechanism.

    Args:
        path: The layer's path in the UNet.
        original: The processor that stood here; acts alone while nothing is bound.
        board: Shared with all processors of the UNet.
    """

    def __init__(self, path: str, original: Any, board: Board) -> None:
        self.path = path
        self.original = original
        self.board = board

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Cross-attention of (B, S, C) over the prompt (B, T, D); returns (B, S, C)."""
        groups = [group for group in self.board.groups if group.active(self.path)]
        if not groups or encoder_hidden_states is None:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **kwargs)
        query, key, value, mask = _heads(attn, hidden_states, encoder_hidden_states, attention_mask)
        if groups[0].rows is None:  # all rows, as in training: nothing is left for the stock path
            return _project_out(attn, self._attend(groups[0], query, key, value, mask))
        out = F.scaled_dot_product_attention(query, key, value, mask)
        for group in groups:
            out = _with_rows(out, group.rows, self._attend(group, query, key, value, mask))
        return _project_out(attn, out)

    def _attend(self, group: RowGroup, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (_rows(x, group.rows) for x in (query, key, value))
        mask = None if mask is None else _rows(mask, group.rows)
        placed = group.active(self.path)
        subjects = [subject_values(one, self.path, query.shape[1]) for one in placed]
        return placed[0].subject.mechanism.attend(query, key, value, subjects, mask)


class NestedWrapProcessor(NestedAttnProcessor):
    """Stands around a processor that is not ours to replace (IP-Adapter's, a custom one).

    What it computes stays; the difference that the subjects make to plain text attention is added:
    out + W_o (A_λ V_q − A V).
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_adapter_masks: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """The wrapped processor's output, plus the subjects' difference on their rows."""
        if ip_adapter_masks is not None:
            kwargs["ip_adapter_masks"] = ip_adapter_masks
        out = self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb=temb, **kwargs)
        groups = [group for group in self.board.groups if group.active(self.path)]
        if not groups or encoder_hidden_states is None:
            return out
        # IP-Adapter hands its image tokens along as (prompt, image tokens)
        text = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
        query, key, value, mask = _heads(attn, hidden_states, text, attention_mask)
        plain = F.scaled_dot_product_attention(query, key, value, mask)
        nested = plain
        for group in groups:
            nested = _with_rows(nested, group.rows, self._attend(group, query, key, value, mask))
        delta = (nested - plain).transpose(1, 2).flatten(2)  # (B, H, S, d) -> (B, S, H · d)
        linear = _out_layers(attn)[0]
        change = linear(delta) - linear(torch.zeros_like(delta[:1, :1]))  # without the bias
        return out + (change / attn.rescale_output_factor).reshape(out.shape)


def is_replaceable(attn: Attention) -> bool:
    """Whether a layer does what our processor does when nothing is bound: SDPA and nothing else."""
    extras = (attn.group_norm, attn.spatial_norm, attn.norm_q, attn.norm_k, attn.norm_cross)
    plain = all(extra is None for extra in extras) and not attn.residual_connection and not attn.fused_projections
    return type(attn.processor) is AttnProcessor2_0 and plain


def _heads(
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


def _project_out(attn: Attention, out: Tensor) -> Tensor:
    out = out.transpose(1, 2).flatten(2)  # (B, H, S, d) -> (B, S, H · d)
    for module in _out_layers(attn):
        out = module(out)
    return out / attn.rescale_output_factor


def _out_layers(attn: Attention) -> nn.ModuleList:
    assert isinstance(attn.to_out, nn.ModuleList)  # only attention without an output projection has none
    return attn.to_out


def _rows(x: Tensor, rows: Tensor | None) -> Tensor:
    return x if rows is None else x.index_select(0, rows)


def _with_rows(x: Tensor, rows: Tensor | None, new: Tensor) -> Tensor:
    return new if rows is None else x.index_copy(0, rows, new.to(x.dtype))
