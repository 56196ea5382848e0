"""Letting subjects act in a UNet: which layers, which rows, and the processors that do it."""

from .binding import BoundSubject, Placed, RowGroup
from .call_binding import CallBinding, PlacedSubject, Prompt
from .gate import Gate, Groups, current_call
from .injector import NestedInjector
from .rows import RowFinder
from .scales import Dial, check_scale, expand_scale
from .steps import StepCounter

__all__ = [
    "BoundSubject",
    "CallBinding",
    "Dial",
    "Gate",
    "Groups",
    "NestedInjector",
    "Placed",
    "PlacedSubject",
    "Prompt",
    "RowFinder",
    "RowGroup",
    "StepCounter",
    "check_scale",
    "current_call",
    "expand_scale",
]
