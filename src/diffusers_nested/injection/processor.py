"""The attention processor that lets bound subjects act; it owns no weights."""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from .binding import LayerGroup
from .heads import at_rows, attend_group, attend_plainly, check_batch, project_out, to_heads


class NestedAttnProcessor:
    """Takes the place of a stock processor: its rows as before, a subject's rows by the mechanism.

    Args:
        original: The processor that stood here; acts alone while nothing is bound.

    Attributes:
        acting: The groups of rows on which subjects act in this layer and this call of the UNet. Plain data, so
            that a compiled layer takes other subjects of the same shapes as other inputs.
    """

    def __init__(self, original: Any) -> None:
        self.original = original
        self.acting: tuple[LayerGroup, ...] = ()

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
        if not self.acting or encoder_hidden_states is None:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **kwargs)
        check_batch(self.acting, encoder_hidden_states)
        heads = to_heads(attn, hidden_states, encoder_hidden_states, attention_mask)
        first = self.acting[0]
        if first.others is None:
            return project_out(attn, attend_group(attn, first, *heads))
        # where there are several groups, each writes its own rows over what the first one's others had
        out = torch.empty_like(heads[0])
        out = out.index_copy(0, first.others, attend_plainly(first.others, *heads).to(out.dtype))
        for group in self.acting:
            assert group.rows is not None  # as it leaves others
            out = out.index_copy(0, group.rows, attend_group(attn, group, *at_rows(group.rows, *heads)).to(out.dtype))
        return project_out(attn, out)


def is_replaceable(attn: Attention) -> bool:
    """Whether a layer does what our processor does when nothing is bound: SDPA and nothing else."""
    extras = (attn.group_norm, attn.spatial_norm, attn.norm_q, attn.norm_k, attn.norm_cross)
    plain = all(extra is None for extra in extras) and not attn.residual_connection and not attn.fused_projections
    return type(attn.processor) is AttnProcessor2_0 and plain
