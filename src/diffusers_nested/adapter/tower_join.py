"""Features of several vision towers as one sequence of a common width, for the Q-Former."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TowerJoin(nn.Module):
    """Brings the features of each tower to a common width, and marks which tower they come from.

    Each tower has a linear layer and an embedding that is added to all its features, so that the Q-Former, which has no
    positions, can tell the towers apart.

    Args:
        widths: D of each tower's features.
        counts: L of each tower's features.
        width: The common width.
    """

    def __init__(self, widths: Sequence[int], counts: Sequence[int], width: int) -> None:
        super().__init__()
        self.widths, self.counts = tuple(widths), tuple(counts)
        self.linears = nn.ModuleList([nn.Linear(own, width) for own in widths])
        self.kinds = nn.Parameter(torch.randn(len(widths), width) * 0.02)

    @staticmethod
    def parameters_of(widths: Sequence[int], width: int) -> int:
        """The number of parameters."""
        return sum(own + 2 for own in widths) * width

    def forward(self, features: Tensor) -> Tensor:
        """Features of all towers (B, L₁ + L₂ + …, max D), narrow ones padded -> (B, L₁ + L₂ + …, width)."""
        parts = zip(features.split(self.counts, dim=1), self.widths, self.linears, self.kinds, strict=True)
        return torch.cat([linear(part[..., :own]) + kind for part, own, linear, kind in parts], dim=1)
