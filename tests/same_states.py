"""Comparison of states of models and runs."""

from pathlib import Path
from typing import Any

import torch

from diffusers_nested.training import read_log


def same(left, right) -> bool:
    """Whether two nested states are equal bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def untimed(log: Path) -> list[dict[str, float]]:
    """The rows of a log without what depends on a clock."""
    return [{k: v for k, v in row.items() if k not in ("pictures_per_second", "frozen_share")} for row in read_log(log)]


def contents(folder: Path) -> dict[str, Any]:
    """Every file in a folder: path -> content."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
