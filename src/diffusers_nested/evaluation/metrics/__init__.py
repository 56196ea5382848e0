"""Metrics: one small file each behind one interface, and their registry."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import NestedAdapterError
from ...images.faces import DlibFaces
from ..imported import import_named
from .base import Metric, Scores, checked_scores
from .embeddings import ClipText, ImageSimilarity, clip_image, dino
from .identity import FunctionRecogniser, IdentitySimilarity, Recogniser
from .outside import OutsideChange


def _dlib(name: str, word: str | None = None, another: bool = False) -> Metric:
    return IdentitySimilarity(name, DlibFaces(), word, another)


def _identity(name: str, embed: str, word: str | None = None, another: bool = False) -> Metric:
    recogniser = FunctionRecogniser(import_named(embed, f"metrics.{name}.embed"))
    return IdentitySimilarity(name, recogniser, word, another)


METRICS: dict[str, Callable[..., Metric]] = {
    "clip-text": ClipText,
    "clip-image": clip_image,
    "dino": dino,
    "dlib": _dlib,
    "identity": _identity,
    "outside": OutsideChange,
}


def register_metric(kind: str, make: Callable[..., Metric]) -> None:
    """Register a metric.

    Args:
        kind: Its name in the settings.
        make: Called as ``make(name, **options)``; its keywords are the options in the settings.
    """
    METRICS[kind] = make


def make_metric(name: str, given: Any) -> Metric:
    """Make a metric from the settings.

    Args:
        name: Column of the results.
        given: Kind of the metric, or a table with ``kind`` and its options. The kind ``"module:name"`` names a class or
            function of the user.

    Raises:
        NestedAdapterError: The kind or an option is unknown, or an extra is not installed.
    """
    table = {"kind": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
        raise NestedAdapterError(f"metrics.{name} must be a kind or a table with `kind`, got {given!r}.")
    options = {key: value for key, value in table.items() if key != "kind"}
    make = _maker(name, table["kind"])
    try:
        inspect.signature(make).bind(name, **options)
    except TypeError as error:
        takes = [key for key in inspect.signature(make).parameters if key != "name"]
        raise NestedAdapterError(f"metrics.{name}: {error}. {table['kind']} takes: {', '.join(takes)}.") from error
    return make(name, **options)


def _maker(name: str, kind: str) -> Callable[..., Metric]:
    if kind in METRICS:
        return METRICS[kind]
    if ":" not in kind:
        raise NestedAdapterError(
            f"metrics.{name} must be of a known kind, {', '.join(sorted(METRICS))}, or MODULE:NAME of your own, "
            f"got {kind!r}."
        )
    return import_named(kind, f"metrics.{name}")


__all__ = [
    "METRICS",
    "ClipText",
    "FunctionRecogniser",
    "IdentitySimilarity",
    "ImageSimilarity",
    "Metric",
    "OutsideChange",
    "Recogniser",
    "Scores",
    "checked_scores",
    "make_metric",
    "register_metric",
]
