"""The public names, which importing this module makes work on the SDXL pipelines of diffusers.

Nobody needs to import it: ``diffusers_nested`` does once diffusers is imported, or one of its names is used.
"""

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
from .pipelines import NestedAdapterMixin, NestedDenoiseStep, add_nested_subjects, register
from .publishing import push_to_hub
from .subjects import Subject

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
