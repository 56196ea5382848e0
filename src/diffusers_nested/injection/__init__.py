"""Letting subjects act in a UNet: which layers, which rows, and the processors that do it."""

from .binding import BoundSubject, Placed, RowGroup
from .call_binding import CallBinding, PlacedSubject
from .injector import NestedInjector
from .rows import RowFinder
from .scales import Dial, check_scale, expand_scale
from .steps import StepCounter

__all__ = [
    "BoundSubject",
    "CallBinding",
    "Dial",
    "NestedInjector",
    "Placed",
    "PlacedSubject",
    "RowFinder",
    "RowGroup",
    "StepCounter",
    "check_scale",
    "expand_scale",
]
