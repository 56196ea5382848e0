"""Comparing adapters and other methods, and measuring what they do."""

from .bootstrap import Interval, bootstrap_mean
from .metrics import Metric, make_metric, register_metric
from .references import Reference
from .settings import EvaluationSettings, read_settings
from .shots import Shot
from .sources import load_references
from .sweep import evaluate
from .worlds import World, register_world

__all__ = [
    "EvaluationSettings",
    "Interval",
    "Metric",
    "Reference",
    "Shot",
    "World",
    "bootstrap_mean",
    "evaluate",
    "load_references",
    "make_metric",
    "read_settings",
    "register_metric",
    "register_world",
]
