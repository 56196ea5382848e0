"""Rules for settings: what each one allows, and what its message says."""

import math
from typing import Any

import pytest

from diffusers_nested import AdapterLoadError, NestedAdapterError
from diffusers_nested.files.rules import FLAG, Rule, check_settings, list_of, number, one_of, whole, word

INFINITE = [math.nan, math.inf, -math.inf, 10**400]
STRANGE: list[Any] = [None, "1", [], {}, object()]
CASES: dict[str, tuple[Rule, list[Any], list[Any]]] = {
    "a whole number from 1 to 3": (whole(1, 3), [1, 2, 3], [0, 4, 1.0, True, *STRANGE]),
    "a whole number of at least 0": (whole(0), [0, 10**5000], [-1, 0.0, False, *STRANGE]),
    "a number from 0.5 to 2": (number(0.5, 2), [0.5, 1, 2], [0.4, 2.1, True, *INFINITE, *STRANGE]),
    "a number from 0 to below 1": (number(0, 1, below=True), [0, 0.999], [1, 1.0, -0.1, False, *INFINITE]),
    "a number above 0, up to 9": (number(0, 9, above=True), [1e-9, 9], [0, 0.0, 9.1, *INFINITE]),
    "a finite number above 0": (number(0, above=True), [1e-9, 1e300], [0, -1, *INFINITE, *STRANGE]),
    "a finite number of at least 0": (number(0), [0, 0.0, 1e300], [-1e-9, *INFINITE, *STRANGE]),
    "a word of at most 3 characters": (word(3), ["a", "a b"], ["", "  ", "four", "a\nb", "\x1b", 1, None]),
    "a word of at most 3 characters, or None": (word(3).or_none(), [None, "a"], ["", 0]),
    "one of a, b": (one_of("a", "b"), ["a"], ["c", "", None, ["a"]]),
    "a list of 2, each a whole number from 1 to 3": (
        list_of(whole(1, 3), 2),
        [[1, 3], (2, 2)],
        [[1], [1, 2, 3], [1, 4], "12", None],
    ),
    "a list of values, each one of a": (list_of(one_of("a")), [["a"], ("a", "a")], [[], "a", ["b"]]),
    "true or false": (FLAG, [True, False], [0, 1, None, "true"]),
}


@pytest.mark.parametrize("expected", CASES)
def test_rule(expected: str):
    rule, valid, invalid = CASES[expected]
    assert rule.expected == expected
    for value in valid:
        rule.check("size", value)
    for value in invalid:
        with pytest.raises(NestedAdapterError, match=f"^size must be {expected}, got "):
            rule.check("size", value)


def test_settings():
    rules = {"size": whole(1, 3), "name": word(8)}
    check_settings({"size": 2, "other": object()}, rules)
    with pytest.raises(NestedAdapterError, match=r"^name must be"):
        check_settings({"size": 2, "name": ""}, rules)
    with pytest.raises(AdapterLoadError, match=r"^config\.json: size must be a whole number from 1 to 3, got 7\.$"):
        check_settings({"size": 7}, rules, "config.json", AdapterLoadError)


@pytest.mark.parametrize("value", [10**5000, "x" * 10_000], ids=type)
def test_values_too_large_for_a_message(value: Any):
    with pytest.raises(NestedAdapterError) as caught:
        whole(1, 3).check("size", value)
    assert len(str(caught.value)) < 300
