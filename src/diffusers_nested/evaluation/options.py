"""Tables of settings: which keys they may have, and of what type."""

from collections.abc import Mapping
from typing import Any

from ..errors import NestedAdapterError


def take(where: str, given: Mapping[str, Any], **expected: Any) -> dict[str, Any]:
    """The values of a table, with defaults filled in.

    Args:
        where: Name of the table, for messages.
        given: The table.
        **expected: Per key its type, or ``(type, default)`` for a key that may be left out.

    Raises:
        NestedAdapterError: An unknown key, a missing one, or a value of another type.
    """
    unknown = sorted(set(given) - set(expected))
    if unknown:
        raise NestedAdapterError(f"{where} has no setting {', '.join(unknown)}. It takes: {', '.join(expected)}.")
    values = {}
    for key, rule in expected.items():
        kind, default = rule if isinstance(rule, tuple) else (rule, ...)
        if key not in given and default is ...:
            raise NestedAdapterError(f"{where} lacks {key!r}. It takes: {', '.join(expected)}.")
        values[key] = _checked(f"{where}.{key}", given[key], kind) if key in given else default
    return values


def _checked(where: str, value: Any, kind: type) -> Any:
    """The value, a whole number taken for a float too."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise NestedAdapterError(f"{where} must be a {kind.__name__}, got {value!r}.")
    if kind is int and value < 0:
        raise NestedAdapterError(f"{where} must not be negative, got {value}.")
    return value
