"""Projections as the layer's own weight plus a low-rank part, W + s·B·A (LoRA, arXiv 2106.09685).

    K̆ = (W_k + s·B_k·A_k) · tokens,  V̆ = (W_v + s·B_v·A_v) · tokens,  s = SCALING / rank

A is random and B zero at first, so an adapter starts where a dense one does: at the layer's own keys and values. Only
A and B are parameters. W belongs to the UNet, is read from it, and is never saved.

These are plain modules rather than peft's: peft's layers wrap a module whose weight they keep among the parameters and
in the state dict, while here W must stay out of both, and may be absent.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import NestedAdapterError

# s is inversely proportional to the rank, so that steps of one size change K̆ and V̆ as much at any rank. It is a part
# of the format: files hold A and B alone.
SCALING = 16.0


class LowRankLinear(nn.Module):
    """tokens -> (W + s·B·A) · tokens.

    Attributes:
        weight: W (out, in), or after ``fuse`` the whole W + s·B·A; None until it is known.
        is_fused: Whether the low-rank part is in ``weight``.
    """

    weight: Tensor | None

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.lora_A = nn.Linear(in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.scaling = SCALING / rank
        self.register_buffer("weight", None, persistent=False)
        self.is_fused = False

    def make_room(self) -> None:
        """Allocate W, to be filled by ``copy_from`` of the projection that this is a part of."""
        self.weight = self.lora_A.weight.new_empty(self.out_features, self.in_features)
        self.is_fused = False

    def base(self) -> Tensor:
        """W (out, in), in float32.

        Raises:
            NestedAdapterError: It is unknown.
        """
        if self.weight is None:
            raise NestedAdapterError("The UNet's own keys and values are unknown. Call adapter.read_base(unet) first.")
        return self.weight.float() - self.difference() if self.is_fused else self.weight.float()

    def difference(self) -> Tensor:
        """s·B·A (out, in), in float32."""
        return self.scaling * (self.lora_B.weight.float() @ self.lora_A.weight.float())

    @torch.no_grad()
    def fuse(self) -> None:
        """Put the low-rank part into ``weight``."""
        if not self.is_fused:
            self.weight, self.is_fused = self._whole().detach(), True

    @torch.no_grad()
    def approximate(self, difference: Tensor) -> None:
        """Set A and B to the best approximation of a difference (out, in) of their rank, by truncated SVD.

        The rows of A are orthonormal and B has the singular values, so that directions beyond the difference's own
        rank begin as B = 0 and are trained like new ones.
        """
        left, values, right = torch.linalg.svd(difference.float(), full_matrices=False)
        rank = self.lora_A.out_features
        self.lora_A.weight.copy_(right[:rank])
        self.lora_B.weight.copy_(left[:, :rank] * values[:rank] / self.scaling)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, in) -> (B, N, out).

        Raises:
            NestedAdapterError: W is unknown, or the weights are fused and the module is in training.
        """
        if self.weight is None:
            raise NestedAdapterError(
                "The adapter's projections are low-rank parts of the UNet's own keys and values, which it does not "
                "have. Call adapter.read_base(unet), or load it with unet=... or with pipe.load_nested_adapter."
            )
        if not self.training:
            return F.linear(tokens, self.weight if self.is_fused else self._whole())
        if self.is_fused:
            raise NestedAdapterError(
                "The adapter's low-rank weights are fused, so they cannot be trained. Call adapter.read_base(unet) "
                "first."
            )
        return F.linear(tokens, self.weight) + self.scaling * self.lora_B(self.lora_A(tokens))

    def _whole(self) -> Tensor:
        assert self.weight is not None
        return (self.weight.float() + self.difference()).to(self.weight.dtype)


def low_rank_parts(module: nn.Module) -> list[LowRankLinear]:
    """All low-rank parts in a module."""
    return [one for one in module.modules() if isinstance(one, LowRankLinear)]


def lower_rank(projection: nn.Module, rank: int) -> nn.Module:
    """A projection whose linear layers are replaced by those of a rank.

    Its ``copy_from`` then fills W, once there is room.
    """
    for name, linear in list(projection.named_children()):
        if isinstance(linear, nn.Linear):
            projection.add_module(name, LowRankLinear(linear.in_features, linear.out_features, rank))
    return projection
