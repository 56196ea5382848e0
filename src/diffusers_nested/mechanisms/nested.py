"""Nested attention, the paper's mechanism (arXiv 2501.01407, section 3.2)."""

import torch
from torch import Tensor, nn

from ..attention import nested_attention
from .base import Mechanism


class NestedProjection(nn.Module):
    """K̆ = W_K̆ · tokens and V̆ = W_V̆ · tokens of one layer."""

    def __init__(self, token_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(token_dim, inner_dim, bias=False)
        self.value = nn.Linear(token_dim, inner_dim, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, token_dim) -> K̆ and V̆, each (B, N, inner_dim)."""
        return self.key(tokens), self.value(tokens)

    @torch.no_grad()
    def copy_from(self, to_k: Tensor, to_v: Tensor) -> None:
        """Start from the layer's own key and value weights, each (inner_dim, token_dim)."""
        self.key.weight.copy_(to_k)
        self.value.weight.copy_(to_v)


NESTED = Mechanism(name="nested", projection=NestedProjection, attend=nested_attention)
