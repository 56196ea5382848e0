"""Nested adapters in the pipelines of diffusers."""

from .mixin import NestedAdapterMixin
from .register import SUPPORTED, register

__all__ = ["SUPPORTED", "NestedAdapterMixin", "register"]
