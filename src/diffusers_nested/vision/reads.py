"""What an adapter reads of its vision towers, according to its configuration.

A configuration has one value of each of these settings for the only tower, or a list with one for each of several.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import AdapterLoadError, NestedAdapterError
from .encoder import ImageEncoder
from .kinds import LAST, PENULTIMATE, POOLED
from .registry import DEFAULT_KIND
from .several import ImageEncoders, each_of

SETTINGS = ("image_encoder", "image_feature_dim", "image_encoder_type", "image_features", "image_feature_count")
TITLES = {LAST: "features", PENULTIMATE: "features", POOLED: "pooled features"}


def each_tower(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configuration as that of an adapter with a single tower, for each of its towers."""
    widths = config["image_feature_dim"]
    if not isinstance(widths, list | tuple):
        return [config]
    columns = {name: each_of(config.get(name), len(widths)) for name in SETTINGS}
    return [{**config, **dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]


def check_kind(config: Mapping[str, Any], kind: str, what: str, known: str = "") -> None:
    """Raise unless a tower is of the family that an adapter was trained with.

    Args:
        config: Configuration of the adapter, as that of one with a single tower.
        kind: The ``model_type`` of the tower.
        what: Its name, for the message.
        known: What else is known of the right one, for the message.

    Raises:
        AdapterLoadError: The families differ; the message gives both.
    """
    wanted = config.get("image_encoder_type") or DEFAULT_KIND
    if kind != wanted:
        raise AdapterLoadError(
            f"{what} is a {kind!r}, but the adapter reads a {wanted!r}. Use the image encoder that the adapter was "
            f"trained with{known}; if it reads several, in the same order."
        )


def check_count(config: Mapping[str, Any], encoder: ImageEncoder, features: str, what: str) -> None:
    """Raise unless a tower gives the features that an adapter reads, and as many of them.

    Args:
        config: Configuration of the adapter, as that of one with a single tower.
        encoder: The tower.
        features: Which of its features the adapter reads.
        what: The tower's name, for the message.

    Raises:
        AdapterLoadError: The tower has no such features, or another number of them; the message gives both.
    """
    wanted, count = config.get("image_feature_count"), encoder.count_of(features)
    encoder.width_of(features)  # raises if it has none
    if wanted not in (None, count):
        titles = TITLES[features] if count > 1 else TITLES[features].removesuffix("s")
        raise AdapterLoadError(
            f"{what} gives {count} {titles} of an image, but the adapter reads {wanted}: its pictures or its patches "
            "have another size. Use the image encoder that the adapter was trained with, and the same preprocessing."
        )


def check_encoder(
    config: Mapping[str, Any], features: str | Sequence[str], encoder: ImageEncoder | ImageEncoders
) -> None:
    """Raise unless an image encoder in memory is such as the adapter reads.

    Args:
        config: Configuration of the adapter.
        features: Which features it reads, for all towers or for each.
        encoder: The image encoder.

    Raises:
        NestedAdapterError: The number of towers, a family, a width or a number of features differs.
    """
    towers = each_tower(config)
    if len(towers) != len(encoder.parts):
        raise NestedAdapterError(
            f"The adapter reads {len(towers)} vision tower{'s' * (len(towers) > 1)}, but the image encoder has "
            f"{len(encoder.parts)}. Load all that it was trained with, in the same order: load_vision_tower([...])."
        )
    for number, row in enumerate(zip(towers, each_of(features, len(towers)), encoder.parts, strict=True), 1):
        one, wanted, part = row
        what = "The image encoder" if len(towers) == 1 else f"The image encoder {number}"
        known = ", or build a new adapter with **image_encoder.adapter_settings()"
        check_kind(one, part.kind, what, known)
        check_count(one, part, wanted, what)
        if part.width_of(wanted) != one["image_feature_dim"]:
            raise NestedAdapterError(
                f"{what} gives {TITLES[wanted]} of width {part.width_of(wanted)}, the adapter reads "
                f"{one['image_feature_dim']}. Use the image encoder that it was trained with, or build a new adapter "
                f"with image_feature_dim={part.width_of(wanted)}."
            )
