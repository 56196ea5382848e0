"""Adapters: what they are, what their files may say, and how they are loaded."""

from .inspection import Inspection, WeightFile, inspect_adapter
from .model import NestedAdapter

__all__ = ["Inspection", "NestedAdapter", "WeightFile", "inspect_adapter"]
