"""Subjects beside a processor that is not ours to replace: IP-Adapter's, or one of the user's own.

What it computes stays; the difference that the subjects make to plain text attention is added,
out + W_o (A_λ V_q − A V), which needs no knowledge of it.

A processor that is a module keeps its place in the UNet and its weights: the object itself is given a subclass of
its own class, which diffusers goes on to recognise. Where it serves further layers, a twin with the same weights
stands for it there. Any other processor is held by a new object that stands in its place.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from .binding import LayerGroup
from .heads import at_rows, attend_group, check_batch, out_layers, to_heads

_ORIGINAL = "_nested_original"  # of our subclasses: the class they stand for
_BEHIND = "_nested_behind"  # of a twin: the module it stands for


def wrap_processor(original: Any) -> Any:
    """What is to stand in the original's place; has ``acting`` for the groups of rows of a call."""
    if isinstance(original, nn.Module):
        if hasattr(original, _ORIGINAL):
            return _twin(original)
        original.__class__ = _acting_class(type(original))
        vars(original)["acting"] = ()
        return original
    return _holder_class(type(original))(original)


def unwrap_processor(wrapped: Any) -> Any:
    """The original, as it was."""
    if not isinstance(wrapped, nn.Module):
        return wrapped.original
    original = _behind(wrapped)
    if original is wrapped:
        wrapped.__class__ = getattr(wrapped, _ORIGINAL)
        del wrapped.acting
    return original


def _twin(module: nn.Module) -> nn.Module:
    """A module for one more layer, with the groups of its own; the given one goes on to do the work."""
    twin = object.__new__(type(module))
    # the tables of weights and sub-modules are shared; past __setattr__, which would make it a sub-module
    vars(twin).update(vars(module), acting=(), **{_BEHIND: module})
    return twin


def _behind(wrapped: nn.Module) -> nn.Module:
    return vars(wrapped).get(_BEHIND, wrapped)


@cache
def _acting_class(cls: type) -> type:
    call: Any = cls.__call__  # of the class: a plain function

    def plain(self: Any) -> Callable[..., Tensor]:
        return call.__get__(_behind(self))

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _rebuild_module, (cls,), self.__dict__

    return _subclass(cls, (cls,), plain, __reduce_ex__)


@cache
def _holder_class(cls: type) -> type:
    def __init__(self: Any, original: Any) -> None:
        self.original, self.acting = original, ()

    def plain(self: Any) -> Callable[..., Tensor]:
        return self.original

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return wrap_processor, (self.original,), self.__dict__

    return _subclass(cls, (), plain, __reduce_ex__, __init__=__init__)


def _subclass(
    cls: type, bases: tuple[type, ...], plain: Callable[[Any], Callable[..., Tensor]], reduce: Any, **body: Any
) -> type:
    # diffusers reads from the signature which cross_attention_kwargs a processor takes
    @wraps(cls.__call__)
    def __call__(
        self: Any,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        out = plain(self)(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        if not self.acting or encoder_hidden_states is None:
            return out
        # IP-Adapter hands its image tokens along as (prompt, image tokens)
        text = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
        check_batch(self.acting, text)
        for group in self.acting:
            out = _with_difference(out, group, attn, hidden_states, text, attention_mask)
        return out

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    body |= {"__call__": __call__, "__reduce_ex__": reduce, _ORIGINAL: cls}
    return type(cls.__name__, bases, names | body)


def _with_difference(
    out: Tensor, group: LayerGroup, attn: Attention, hidden_states: Tensor, text: Tensor, mask: Tensor | None
) -> Tensor:
    """The output (B, S, C) with W_o (A_λ V_q − A V) added at the group's rows."""
    hidden_states, text, mask = at_rows(group.rows, hidden_states, text, mask)
    query, key, value, mask = to_heads(attn, hidden_states, text, mask)
    plain = F.scaled_dot_product_attention(query, key, value, mask)
    delta = attend_group(attn, group, query, key, value, mask) - plain
    delta = delta.transpose(1, 2).flatten(2)  # (rows, H, S, d) -> (rows, S, H · d)
    linear = out_layers(attn)[0]
    change = linear(delta) - linear(delta.new_zeros(1, 1, delta.shape[-1]))  # without the bias
    change = (change / attn.rescale_output_factor).to(out.dtype)
    return out + change if group.rows is None else out.index_add(0, group.rows, change)


def _rebuild_module(cls: type) -> Any:
    return object.__new__(_acting_class(cls))
