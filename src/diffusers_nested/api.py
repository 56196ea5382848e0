"""The public names, which importing this module makes work on the pipelines of diffusers.

Nobody needs to import it: ``diffusers_nested`` does once diffusers is imported, or one of its names is used.
"""

from .adapter import NestedAdapter
from .attention import SubjectValues, nested_attention
from .errors import (
    AdapterLoadError,
    DependencyError,
    FaceNotFoundError,
    NestedAdapterError,
    ProcessorReplacedError,
    PromptTokenError,
    PublishError,
    RowsNotFoundError,
    ScaleError,
    SubjectError,
)
from .images.landmarks import prepare_face
from .pipelines import NestedAdapterMixin, NestedDenoiseStep, add_nested_subjects, register
from .subjects import Subject
from .tracing import Trace, trace

register()

__all__ = [
    "AdapterLoadError",
    "DependencyError",
    "FaceNotFoundError",
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
    "Trace",
    "add_nested_subjects",
    "nested_attention",
    "prepare_face",
    "trace",
]
