"""Nested adapters in the pipelines of diffusers."""

from .mixin import NestedAdapterMixin
from .modular import NestedDenoiseStep, add_nested_subjects
from .register import SUPPORTED, register

__all__ = ["SUPPORTED", "NestedAdapterMixin", "NestedDenoiseStep", "add_nested_subjects", "register"]
