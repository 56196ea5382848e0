"""What every mechanism consists of."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Mechanism:
    """A way to bring subject tokens into a cross-attention layer.

    Attributes:
        name: What a config calls it.
        projection: Builds a layer's trained part from (token_dim, inner_dim). The module maps tokens
            (B, N, token_dim) to what the layer reads, a pair (K̆, V̆) of shape (B, N, inner_dim), and has
            ``copy_from(to_k, to_v)`` to start from the layer's own projections.
        attend: The layer itself: (query, key, value, subjects, attention_mask) -> (B, H, S, d).
    """

    name: str
    projection: Callable[[int, int], nn.Module]
    attend: Callable[..., Tensor]
