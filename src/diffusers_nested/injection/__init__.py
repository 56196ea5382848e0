"""Letting subjects act in a UNet: which layers, which rows, and the processors that do it."""

from .binding import BoundSubject, CallBinding, Placed, RowGroup
from .injector import NestedInjector
from .rows import RowFinder
from .scales import Dial, check_scale, expand_scale

__all__ = [
    "BoundSubject",
    "CallBinding",
    "Dial",
    "NestedInjector",
    "Placed",
    "RowFinder",
    "RowGroup",
    "check_scale",
    "expand_scale",
]
