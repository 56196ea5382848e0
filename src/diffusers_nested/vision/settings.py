"""Settings of somebody else's configuration: those that we know, each within its range."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import AdapterLoadError
from ..files import shown

Rule = tuple[Callable[[Any], bool], str]  # whether a value is valid, and what one is


def checked(values: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Those of the values that have a rule; others, and null, mean nothing to us.

    Args:
        values: The settings by name.
        rules: Those that are known.
        where: Where they stand, for messages.

    Raises:
        AdapterLoadError: One is out of its range.
    """
    known = {name: value for name, value in values.items() if name in rules and value is not None}
    for name, value in known.items():
        is_valid, expected = rules[name]
        if not is_valid(value):
            raise AdapterLoadError(f"{where}: {name} must be {expected}, got {shown(value)}.")
    return known


def whole(limit: int, least: int = 1) -> Rule:
    """The rule of a whole number."""
    return lambda value: type(value) is int and least <= value <= limit, f"a whole number from {least} to {limit}"


def number(least: float, most: float) -> Rule:
    """The rule of a number."""
    return lambda value: is_number(value) and least <= value <= most, f"a number from {least:g} to {most:g}"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none."""
    return type(value) in (int, float) and -1e6 <= value <= 1e6 and math.isfinite(value)
