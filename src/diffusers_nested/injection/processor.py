"""Cross-attention in which subjects act: the processor that replaces a stock one, and its parts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from ..attention import SubjectValues
from ..errors import RowsNotFoundError
from .groups import LayerGroup, Rows
from .storage import loaded


class NestedAttnProcessor:
    """Replaces a stock processor: rows with a subject follow the mechanism, all others the stock path.

    It owns no weights.

    Args:
        original: The processor that it replaces, which does all the work while no subject acts.

    Attributes:
        acting: The groups of rows on which subjects act in this layer and this call of the UNet. Plain data, so
            other subjects of the same shapes are just other inputs to a compiled layer.
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
        # a compiler fuses what the plain form has more, and needs one graph for all scales
        is_fast = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        is_fast = is_fast and all([group.is_fast for group in self.acting])
        attend = attend_at_once if is_fast else attend_by_parts
        return project_out(attn, attend(attn, self.acting, *heads))


class Replaced:
    """Lets subjects act in a layer by a processor of ours, in place of a stock one.

    Args:
        layer: A cross-attention layer, changed until ``remove``.
    """

    def __init__(self, layer: Attention) -> None:
        self._layer = layer
        self._ours = NestedAttnProcessor(layer.processor)
        layer.set_processor(self._ours)  # pyright: ignore[reportArgumentType]

    @property
    def is_in_place(self) -> bool:
        """Whether the processor is still there."""
        return self._layer.processor is self._ours

    def act(self, groups: tuple[LayerGroup, ...]) -> None:
        """Let these groups of rows act from now on."""
        self._ours.acting = groups

    def remove(self) -> None:
        """Put the original processor back; one set by somebody else since then stays."""
        if self.is_in_place:
            self._layer.set_processor(self._ours.original)


def is_replaceable(attn: Attention) -> bool:
    """Whether our processor can replace the layer's: SDPA and nothing else."""
    extras = (attn.group_norm, attn.spatial_norm, attn.norm_q, attn.norm_k, attn.norm_cross)
    plain = all(extra is None for extra in extras) and not attn.residual_connection and not attn.fused_projections
    return type(attn.processor) is AttnProcessor2_0 and plain


def to_heads(
    attn: Attention, hidden_states: Tensor, text: Tensor, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Query (B, H, S, d), key and value (B, H, T, d) of a layer, and its mask (B, H, 1, T)."""
    layer: Any = attn  # typed too loosely: to_q, to_k and to_v are modules
    query = _split(attn, layer.to_q(hidden_states))
    key, value = _keys_and_values(attn, text)
    if attention_mask is not None:
        mask = attn.prepare_attention_mask(attention_mask, text.shape[1], len(text))
        attention_mask = mask.unflatten(0, (len(text), attn.heads))
    return query, key, value, attention_mask


def check_batch(acting: Sequence[LayerGroup], text: Tensor) -> None:
    """Raise unless a layer gets all the rows that the UNet got.

    Raises:
        RowsNotFoundError: Something splits the batch on its way through the UNet.
    """
    batch = acting[0].batch
    if batch is not None and len(text) != batch:
        raise RowsNotFoundError(
            f"A cross-attention layer was given {len(text)} rows of prompt embeddings, but its UNet {batch}: something "
            "splits the batch inside the UNet, such as a patched `unet.forward`, so the subjects' rows are unknown "
            "there. Split it outside, with one UNet call per part, or generate fewer pictures at once."
        )


def attend_at_once(
    attn: Attention,
    acting: Sequence[LayerGroup],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """All rows by one attention over the prompt, to which the groups add theirs in place: (B, H, S, d)."""
    lowered = value
    for group in acting:
        if group.kept is not None:
            lowered = lowered * group.kept  # 1 in the rows of others
    out = F.scaled_dot_product_attention(query, key, lowered, mask)
    for group in acting:
        assert group.mechanism.fast is not None
        terms = group.mechanism.fast.terms
        own = at_rows(group.rows, query, key, value, mask)
        for term in terms(*own[:3], loaded(group.subjects, query.device), own[3]):
            add_at_rows(out, group.rows, *term)
    return out


def attend_by_parts(
    attn: Attention,
    acting: Sequence[LayerGroup],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Each group by its mechanism, and all other rows as with the stock processor: (B, H, S, d)."""
    heads, first = (query, key, value, mask), acting[0]
    if first.others is None:
        return attend_group(attn, first, *heads)
    # with several groups, each overwrites its own rows among the others of the first
    parts = [(first.others, F.scaled_dot_product_attention(*at_rows(first.others, *heads)))]
    parts += [(group.rows, attend_group(attn, group, *at_rows(group.rows, *heads))) for group in acting]
    return joined(parts, query)


def attend_group(
    attn: Attention, group: LayerGroup, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """What the group's rows read, given their queries, keys, values and mask: (rows, H, S, d)."""
    return group.mechanism.attend(query, key, value, subjects_at(attn, group, query.device, key.dtype), mask)


def subjects_at(
    attn: Attention, group: LayerGroup, device: torch.device, dtype: torch.dtype
) -> tuple[SubjectValues, ...]:
    """The group's subjects as the layer reads them, in the type of its keys."""
    subjects = loaded(group.subjects, device)
    if group.mechanism.projection is None:
        subjects = tuple(_read_by_layer(attn, subject, dtype) for subject in subjects)
    return subjects


def _read_by_layer(attn: Attention, subject: SubjectValues, dtype: torch.dtype) -> SubjectValues:
    """The subject's tokens (rows, N, D) as the layer's own keys and values, each (rows, H, N, d)."""
    key, value = _keys_and_values(attn, subject.value.to(dtype))
    return replace(subject, key=key, value=value)


def _keys_and_values(attn: Attention, text: Tensor) -> tuple[Tensor, Tensor]:
    if attn.norm_cross is not None:
        text = attn.norm_encoder_hidden_states(text)
    layer: Any = attn  # to_k and to_v are None only in layers with added projections, unlike these
    return _split(attn, layer.to_k(text)), _split(attn, layer.to_v(text))


def _split(attn: Attention, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, L, H · d) -> (B, H, L, d)


def at_rows(rows: Rows | None, *tensors: Any) -> Any:
    """Select rows of tensors, any of which may be None; all rows if ``rows`` is None."""
    if rows is None:
        return tensors
    if isinstance(rows, tuple):  # views
        return [x if x is None else x[rows[0] : rows[1]] for x in tensors]
    return [x if x is None else x.index_select(0, rows) for x in tensors]


def add_at_rows(out: Tensor, rows: Rows | None, values: Tensor, amount: Tensor, factor: float) -> None:
    """Add factor · values · amount to some rows of (B, H, S, d), in place."""
    if isinstance(rows, Tensor):
        out.index_add_(0, rows, (values * amount).to(out.dtype), alpha=factor)
    else:
        at_rows(rows, out)[0].addcmul_(values, amount, value=factor)


def joined(parts: Sequence[tuple[Any, Tensor]], like: Tensor) -> Tensor:
    """The parts (rows, H, S, d) in the order of their rows, as (B, H, S, d); later ones win."""
    spans = [rows for rows, _ in parts if isinstance(rows, tuple)]
    if len(spans) == len(parts) == 2:
        first, second = parts if spans[0] < spans[1] else parts[::-1]
        # heads stay next to each other, as the output projection wants them
        return torch.cat([part.transpose(1, 2) for part in (first[1], second[1])]).transpose(1, 2)
    out = torch.empty_like(like)
    for rows, part in parts:
        numbers = torch.arange(*rows, device=like.device) if isinstance(rows, tuple) else rows
        out = out.index_copy(0, numbers, part.to(out.dtype))
    return out


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
