"""Letting subjects act in a UNet: which layers, which rows, and what they compute there."""

from .beside import acting_in
from .gate import Gate, Groups, current_call, named_inputs, outside_calls
from .groups import RowGroup
from .injector import NestedInjector
from .placed import Dial, Kind, PlacedSubject, ProjectedSubject
from .placement import Placement, Prompt
from .rows import RowFinder
from .scales import check_scale, expand_scale
from .steps import StepCounter
from .storage import Read, Storage, split_heads

__all__ = [
    "Dial",
    "Gate",
    "Groups",
    "Kind",
    "NestedInjector",
    "PlacedSubject",
    "Placement",
    "ProjectedSubject",
    "Prompt",
    "Read",
    "RowFinder",
    "RowGroup",
    "StepCounter",
    "Storage",
    "acting_in",
    "check_scale",
    "current_call",
    "expand_scale",
    "named_inputs",
    "outside_calls",
    "split_heads",
]
