"""Nested Attention for diffusers: a photo becomes a word of the prompt.

Importing the package gives the pipelines of diffusers ``load_nested_adapter`` and its companions: at once if
diffusers is imported already, else as soon as it is. Until then nothing heavy is imported, so that the command line
answers ``--help`` in a moment.
"""
# ruff: noqa: E402 (versions are looked at before anything that an old one would break)

from .environment.requirements import check_requirements

check_requirements()

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .environment.after_import import after_import

if TYPE_CHECKING:
    from .api import (
        AdapterLoadError,
        DependencyError,
        FaceNotFoundError,
        NestedAdapter,
        NestedAdapterError,
        NestedAdapterMixin,
        NestedDenoiseStep,
        ProcessorReplacedError,
        PromptTokenError,
        PublishError,
        RowsNotFoundError,
        ScaleError,
        Subject,
        SubjectError,
        SubjectValues,
        Trace,
        add_nested_subjects,
        nested_attention,
        prepare_face,
        trace,
    )

__version__ = "0.2.0.dev0"
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


def _api() -> Any:
    return import_module(f"{__name__}.api")


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        api = _api()
        if name in __all__:
            return getattr(api, name)
        if name in globals():  # a module, which has come with the names
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


after_import("diffusers", __name__, _api)
