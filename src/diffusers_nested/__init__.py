"""Nested Attention for SDXL in diffusers: a photo becomes a word of the prompt.

Importing the package gives the SDXL pipelines of diffusers ``load_nested_adapter`` and its companions.
"""
# ruff: noqa: E402 (versions are looked at before anything that an old one would break)

from .requirements import check_requirements

check_requirements()

from .adapter import NestedAdapter
from .attention import SubjectValues, nested_attention
from .errors import (
    AdapterLoadError,
    DependencyError,
    NestedAdapterError,
    ProcessorReplacedError,
    PromptTokenError,
    PublishError,
    RowsNotFoundError,
    ScaleError,
    SubjectError,
)
from .hub import push_to_hub
from .pipelines import NestedAdapterMixin, NestedDenoiseStep, add_nested_subjects, register
from .subjects import Subject

__version__ = "0.1.0"

register()
# Publishing loads what it publishes, so it stands after the adapter in the order of imports and comes to it from here.
NestedAdapter.push_to_hub = push_to_hub

__all__ = [
    "AdapterLoadError",
    "DependencyError",
    "NestedAdapter",
    "NestedAdapterError",
    "NestedAdapterMixin",
    "NestedDenoiseStep",
    "ProcessorReplacedError",
    "PromptTokenError",
    "PublishError",
    "RowsNotFoundError",
    "ScaleError",
    "Subject",
    "SubjectError",
    "SubjectValues",
    "add_nested_subjects",
    "nested_attention",
]
