"""Adapters: what they are, what their files may say, and how they are loaded."""

from .inspection import Inspection, WeightFile, inspect_adapter
from .model import NestedAdapter
from .resolve import load_adapter, origin_of, pin_adapter

__all__ = [
    "Inspection",
    "NestedAdapter",
    "WeightFile",
    "inspect_adapter",
    "load_adapter",
    "origin_of",
    "pin_adapter",
]
