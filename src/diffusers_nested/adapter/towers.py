"""The settings of an adapter that say what it reads of its vision towers."""

from collections.abc import Mapping
from typing import Any

from ..errors import NestedAdapterError
from ..files.limits import MAX_PATCHES, MAX_TEXT, MAX_TOWERS, MAX_WIDTH
from ..files.rules import Rule, one_of, whole, word
from ..vision.kinds import FEATURES
from ..vision.reads import SETTINGS
from ..vision.registry import DEFAULT_KIND, TOWER_KINDS

# Written only if they matter, so that the files of adapters that read a CLIP stay as they were.
OPTIONAL = {"image_encoder_type": DEFAULT_KIND, "image_features": None, "image_feature_count": None}


def tower_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What to write of an adapter's settings for its towers: a list only for several, and no defaults."""
    settings = {name: _plain(given[name]) for name in SETTINGS}
    return {name: value for name, value in settings.items() if name not in OPTIONAL or value != OPTIONAL[name]}


def check_towers(config: Mapping[str, Any]) -> None:
    """Raise unless the settings for the towers, each of them in range, fit together.

    Raises:
        NestedAdapterError: Names the setting, its value and what was expected.
    """
    widths = config["image_feature_dim"]
    count = len(widths) if isinstance(widths, list) else 1
    for name in SETTINGS:
        value = config.get(name)
        if isinstance(value, list) and len(value) != count:
            raise NestedAdapterError(
                f"{name} has {len(value)} values, but image_feature_dim has {count}: {value} and {widths}. Give one of "
                "each for every vision tower."
            )
    if count == 1:
        return
    counts = config.get("image_feature_count")
    if not isinstance(counts, list) or None in counts:
        raise NestedAdapterError(
            f"image_feature_count is {counts!r}, expected a list of {count} numbers: how many features of an image "
            "each vision tower gives. Build the adapter with **image_encoder.adapter_settings()."
        )
    if isinstance(config["image_encoder"], str):
        raise NestedAdapterError(
            f"image_encoder is {config['image_encoder']!r}, but the adapter reads {count} vision towers. Give a list "
            "with a name for each, or None if they will be saved beside the adapter."
        )


def expected_shape(config: Mapping[str, Any]) -> tuple[int | None, int]:
    """Number and width of the features that the adapter reads; any number, None, of a single tower."""
    widths = config["image_feature_dim"]
    return (sum(config["image_feature_count"]), max(widths)) if isinstance(widths, list) else (None, widths)


def _plain(value: Any) -> Any:
    """A list of one as its value, and a list without values as None."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values[0] if len(values) == 1 else None if values and set(map(type, values)) == {type(None)} else values


def _each(rule: Rule) -> Rule:
    """A rule for one tower, or for a list with a value for each of several."""

    def is_valid(value: Any) -> bool:
        is_list = isinstance(value, list) and 2 <= len(value) <= MAX_TOWERS
        return all(map(rule.is_valid, value)) if is_list else rule.is_valid(value)

    return Rule(is_valid, f"{rule.expected}, or a list of 2 to {MAX_TOWERS} of these, one for each vision tower")


def _is_kind(value: Any) -> bool:
    return isinstance(value, str) and value in TOWER_KINDS  # as they are now: kinds can be added


_RULES: Mapping[str, Rule] = {
    "image_encoder": word(MAX_TEXT, "a repository id").or_none(),
    "image_feature_dim": whole(1, MAX_WIDTH),
    "image_encoder_type": Rule(_is_kind, f"one of {', '.join(TOWER_KINDS)}"),
    "image_features": one_of(*FEATURES).or_none(),
    "image_feature_count": whole(1, 2 * MAX_PATCHES).or_none(),
}
RULES: Mapping[str, Rule] = {name: _each(rule) for name, rule in _RULES.items()}
