"""Rules for settings: which values are allowed, and how an error message describes them."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import NestedAdapterError
from .json_files import shown


@dataclass(frozen=True)
class Rule:
    """Which values a setting may have.

    Attributes:
        is_valid: Whether a value, of any type, is allowed.
        expected: What is allowed, to follow "must be": ``"a whole number from 1 to 8"``.
    """

    is_valid: Callable[[Any], bool]
    expected: str

    def check(self, name: str, value: Any, error: type[NestedAdapterError] = NestedAdapterError) -> None:
        """Raise unless a value is allowed.

        Args:
            name: The setting's name, for the message.
            value: The value to check.
            error: The class of the error.

        Raises:
            NestedAdapterError: Names the setting, its value and what was expected.
        """
        if not self.is_valid(value):
            raise error(f"{name} must be {self.expected}, got {shown(value)}.")

    def or_none(self) -> "Rule":
        """The same rule, but None is allowed too."""
        return Rule(lambda value: value is None or self.is_valid(value), f"{self.expected}, or None")


def check_settings(
    values: Mapping[str, Any],
    rules: Mapping[str, Rule],
    where: str = "",
    error: type[NestedAdapterError] = NestedAdapterError,
) -> None:
    """Raise unless every setting follows its rule; missing settings and settings without a rule are ignored.

    Args:
        values: The settings by name.
        rules: The rules by name.
        where: Where the settings come from, for the message.
        error: The class of the error.

    Raises:
        NestedAdapterError: Names the first setting that breaks its rule, its value and what was expected.
    """
    for name, rule in rules.items():
        if name in values:
            rule.check(f"{where}: {name}" if where else name, values[name], error)


def known_settings(
    values: Mapping[str, Any],
    rules: Mapping[str, Rule],
    where: str = "",
    error: type[NestedAdapterError] = NestedAdapterError,
) -> dict[str, Any]:
    """The settings that have a rule and are not None, checked; used for files with settings that we do not know.

    The arguments are those of ``check_settings``.

    Raises:
        NestedAdapterError: Like ``check_settings``.
    """
    known = {name: value for name, value in values.items() if name in rules and value is not None}
    check_settings(known, rules, where, error)
    return known


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number from ``low`` to ``high``, both inclusive; True and False do not count as numbers."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Rule(lambda value: _is(value, int) and low <= value and (high is None or value <= high), expected)


def number(low: float, high: float | None = None, *, above: bool = False, below: bool = False) -> Rule:
    """A finite number from ``low`` to ``high``; True and False do not count as numbers.

    Args:
        low: The minimum.
        high: The maximum; by default there is none.
        above: Exclude ``low`` itself.
        below: Exclude ``high`` itself.
    """
    most = sys.float_info.max if high is None else high

    def is_valid(value: Any) -> bool:
        # Python compares exactly, so NaN and integers beyond the range of floats are refused
        is_inside = _is(value, int, float) and low <= value <= most
        return is_inside and not (above and value == low) and not (below and value == high)

    if high is None:
        return Rule(is_valid, f"a finite number {'above' if above else 'of at least'} {low:g}")
    start, end = f"above {low:g}, up" if above else f"from {low:g}", "to below" if below else "to"
    return Rule(is_valid, f"a number {start} {end} {high:g}")


def word(longest: int, what: str = "a word") -> Rule:
    """Printable text that is not blank.

    Args:
        longest: The maximum number of characters.
        what: What the setting is, for the message.
    """

    def is_valid(value: Any) -> bool:
        return isinstance(value, str) and bool(value.strip()) and len(value) <= longest and value.isprintable()

    return Rule(is_valid, f"{what} of at most {longest} characters")


def one_of(*options: str) -> Rule:
    """One of the given names."""
    return Rule(lambda value: isinstance(value, str) and value in options, f"one of {', '.join(options)}")


def list_of(rule: Rule, count: int | None = None) -> Rule:
    """A list whose values all follow a rule.

    Args:
        rule: The rule for each value.
        count: The number of values; by default one or more.
    """

    def is_valid(value: Any) -> bool:
        is_long_enough = isinstance(value, list | tuple) and (len(value) > 0 if count is None else len(value) == count)
        return is_long_enough and all(map(rule.is_valid, value))

    return Rule(is_valid, f"a list of {'values' if count is None else count}, each {rule.expected}")


FLAG = Rule(lambda value: isinstance(value, bool), "true or false")


def as_plain(value: Any) -> Any:
    """The value, or those of a list, with numbers and strings of Python's own types, not of subclasses as numpy's."""
    if isinstance(value, list | tuple):
        return type(value)(map(as_plain, value))
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum, its value
    return float(value) if isinstance(value, float) else value


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
