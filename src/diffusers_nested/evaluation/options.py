"""Tables of settings: their keys and the types of their values."""

from collections.abc import Mapping
from typing import Any

from ..errors import NestedAdapterError
from ..files.rules import Rule, whole

_RULES: Mapping[type, Rule] = {
    str: Rule(lambda value: isinstance(value, str), "a text"),
    int: whole(0),
    list: Rule(lambda value: isinstance(value, list), "a list"),
    dict: Rule(lambda value: isinstance(value, Mapping), "a table"),
}


def take(where: str, given: Mapping[str, Any], **expected: Any) -> dict[str, Any]:
    """Check a table and fill in its defaults.

    Args:
        where: Name of the table, for messages.
        given: The table.
        **expected: Per key its type (text, whole number, list or dict), or ``(type, default)`` if it may be left out.

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
        if key in given:
            _RULES[kind].check(f"{where}.{key}", given[key])
        values[key] = given.get(key, default)
    return values
