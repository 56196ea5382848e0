"""Worlds: pipelines with subjects, prompts and adapters of their own, registered under a name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .references import Reference


@dataclass(frozen=True)
class World:
    """A pipeline with its subjects, prompts and adapters.

    Attributes:
        name: In the settings, alone (pipeline, prompts) or before a colon ("name:kind" for subjects and adapters).
        pipeline: Makes the pipeline.
        references: Makes subjects from their kind, their number, and the number of photos of each.
        adapter: Returns the folder of the adapter of a kind.
        prompts: Prompts, with ``{}`` for the subject's word.
        call: Default keywords of the pipeline's call.
    """

    name: str
    pipeline: Callable[[], Any]
    references: Callable[[str, int, int], list[Reference]]
    adapter: Callable[[str], Path]
    prompts: Sequence[str]
    call: Mapping[str, Any] = field(default_factory=dict)


WORLDS: dict[str, World] = {}


def register_world(world: World) -> None:
    """Register a world under its name."""
    WORLDS[world.name] = world


def world_of(name: str) -> World:
    """Look up a world by its name.

    Raises:
        NestedAdapterError: There is none of this name.
    """
    if name not in WORLDS:
        raise NestedAdapterError(f"Unknown world {name!r}. Known: {', '.join(sorted(WORLDS)) or 'none'}.")
    return WORLDS[name]


def split_name(name: str) -> tuple[str, str]:
    """Split ``"world:kind"`` into (world, kind).

    Raises:
        NestedAdapterError: It is not of this form.
    """
    world, colon, kind = name.partition(":")
    if not colon or not kind:
        raise NestedAdapterError(f"A kind must be of the form WORLD:KIND, such as 'miniature:people', got {name!r}.")
    return world, kind
