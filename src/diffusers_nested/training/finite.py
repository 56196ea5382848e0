"""Whether all numbers of a state are finite."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def first_not_finite(state: Any) -> str | None:
    """Path of the first tensor with NaN or infinite values in nested dicts and lists, if any."""
    named = [(path, tensor) for path, tensor in _tensors(state) if tensor.is_floating_point()]
    if not named:
        return None
    flags = torch.stack([tensor.isfinite().all().to(named[0][1].device) for _, tensor in named]).tolist()
    return next((path for (path, _), is_finite in zip(named, flags, strict=True) if not is_finite), None)


def _tensors(state: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, dict | list | tuple):
        parts = state.items() if isinstance(state, dict) else enumerate(state)
        for name, part in parts:
            yield from _tensors(part, f"{path}.{name}" if path else f"{name}")
