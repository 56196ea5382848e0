"""Adapters: the model itself, its files, and how it is checked and loaded."""

from .inspection import Inspection, WeightFile, inspect_adapter
from .model import NestedAdapter

__all__ = ["Inspection", "NestedAdapter", "WeightFile", "inspect_adapter"]
