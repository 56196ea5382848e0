"""Contestants of a comparison: one small file per kind, and their registry."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import NestedAdapterError
from ..imported import import_named
from ..options import take
from ..worlds import WORLDS, split_name, world_of
from .base import Contestant, Generate, Plain
from .function import Function
from .ip_adapter import IPAdapter
from .nested import Nested


def _plain(name: str, table: Mapping[str, Any], scales: Sequence[float]) -> Contestant:
    take(f"contestants.{name}", table, kind=str)
    return Plain(name)


def _nested(name: str, table: Mapping[str, Any], scales: Sequence[float]) -> Contestant:
    several = isinstance(table.get("adapter"), list)
    options = take(
        f"contestants.{name}",
        table,
        kind=str,
        adapter=list if several else str,
        photos=(int, None),
        words=(list, None),
        subject_token=(list if several else str, None),
        image_encoder_folder=(str, "image_encoder"),
        **dict.fromkeys(("subfolder", "weight_name", "mechanism", "variant", "revision"), (str, None)),
    )
    adapters = options.pop("adapter")
    del options["kind"]
    return Nested(name, scales, [_located(one) for one in (adapters if several else [adapters])], **options)


def _ip_adapter(name: str, table: Mapping[str, Any], scales: Sequence[float]) -> Contestant:
    options = take(
        f"contestants.{name}",
        table,
        kind=str,
        adapter=str,
        subfolder=(str, ""),
        weight_name=str,
        revision=(str, None),
        image_encoder_folder=(str, "image_encoder"),
    )
    del options["kind"]
    return IPAdapter(name, scales, **options)


def _function(name: str, table: Mapping[str, Any], scales: Sequence[float]) -> Contestant:
    options = take(f"contestants.{name}", table, kind=str, function=str)
    return Function(name, scales, import_named(options["function"], f"contestants.{name}.function"))


KINDS: dict[str, Callable[[str, Mapping[str, Any], Sequence[float]], Contestant]] = {
    "plain": _plain,
    "nested": _nested,
    "ip_adapter": _ip_adapter,
    "function": _function,
}


def make_contestant(name: str, table: Any, scales: Sequence[float]) -> Contestant:
    """Make a contestant from its table in the settings.

    Args:
        name: Name of the table.
        table: ``kind`` and what this kind needs, without ``scales``.
        scales: Strengths at which it is measured.

    Raises:
        NestedAdapterError: The kind is unknown, or its settings do not fit.
    """
    if not isinstance(table, Mapping):
        raise NestedAdapterError(
            f'The contestant {name!r} must be a table such as {{ kind = "plain" }}, got {table!r:.80}.'
        )
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise NestedAdapterError(
            f"The contestant {name!r} must have one of the kinds {', '.join(KINDS)}, got {kind!r}."
        )
    return KINDS[kind](name, table, scales)


def _located(adapter: str) -> str:
    """The folder of a world's adapter for ``"world:kind"``; a repository or folder unchanged."""
    if adapter.partition(":")[0] not in WORLDS:
        return adapter
    world, kind = split_name(adapter)
    return str(world_of(world).adapter(kind))


__all__ = ["KINDS", "Contestant", "Function", "Generate", "IPAdapter", "Nested", "Plain", "make_contestant"]
