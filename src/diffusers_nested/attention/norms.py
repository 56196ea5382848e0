"""Norms of values, over all heads together, for every token or query."""

import torch
from torch import Tensor

from .values import SubjectValues


def norm(values: Tensor) -> Tensor:
    """‖·‖ over the whole inner vector, all heads together: (B, H, L, d) -> (B, 1, L, 1).

    In float32 or wider: the norm of a wide vector, and the squares of entries beyond 255, overflow in fp16.
    """
    return torch.linalg.vector_norm(values, dim=(1, 3), keepdim=True, dtype=accurate(values))


def length(values: Tensor) -> Tensor:
    """``norm``, but never so small that dividing by it would overflow: values of zero stay zero."""
    return norm(values).clamp(min=torch.finfo(values.dtype).tiny)


def root(subject: SubjectValues, value: Tensor) -> float:
    """√(H d), by which ``Doses.added`` was divided if the subject has a norm; for the layer's values (B, H, T, d)."""
    return 1.0 if subject.alpha is None else (value.shape[1] * value.shape[3]) ** 0.5


def accurate(values: Tensor) -> torch.dtype:
    """The type of the values, but at least float32."""
    return torch.promote_types(values.dtype, torch.float32)
