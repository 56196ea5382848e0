"""Subject tokens for many projections under autocast, cast once instead of once a projection."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Cast(torch.autograd.Function):
    """The cast tokens again, without new memory; their gradients are summed in the tokens' own type."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, cast: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.dtype = tokens.dtype
        return cast.view_as(cast)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad.to(ctx.dtype), None


def cast_once(tokens: Tensor) -> Callable[[], Tensor]:
    """What each projection is to read.

    Left to autocast, every linear layer keeps a copy of its own for the backward pass: 140 in SDXL. Here all layers
    share one, and the gradient of each is still added up in float32, where 70 terms in bfloat16 would lose digits.

    Args:
        tokens: (B, N, D).

    Returns:
        A function that gives the tokens for one layer: as they are without autocast.
    """
    device = tokens.device.type
    is_on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if not is_on or tokens.dtype != torch.float32:
        return lambda: tokens
    cast = tokens.detach().to(torch.get_autocast_dtype(device))
    return lambda: _Cast.apply(tokens, cast)  # pyright: ignore[reportReturnType]
