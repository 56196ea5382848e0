"""Pipelines that bring their own subjects, prompts and adapters, under a name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .references import Reference


@dataclass(frozen=True)
class World:
    """What the name of a world stands for in the settings.

    Attributes:
        name: In the settings, alone (pipeline, prompts) or before a colon ("name:kind" for subjects and adapters).
        pipeline: Makes the pipeline.
        references: From kind, number of subjects and photos of each to the subjects.
        adapter: Folder of the adapter of a kind.
        prompts: Prompts, with ``{}`` for the subject's word.
        call: Keywords of the pipeline's call, unless the settings say otherwise.
    """

    name: str
    pipeline: Callable[[], Any]
    references: Callable[[str, int, int], list[Reference]]
    adapter: Callable[[str], Path]
    prompts: Sequence[str]
    call: Mapping[str, Any] = field(default_factory=dict)


WORLDS: dict[str, World] = {}


def register_world(world: World) -> None:
    """Make a world known under its name."""
    WORLDS[world.name] = world


def world_of(name: str) -> World:
    """The world of that name.

    Raises:
        NestedAdapterError: There is none.
    """
    if name not in WORLDS:
        raise NestedAdapterError(f"Unknown world {name!r}. Known: {', '.join(sorted(WORLDS)) or 'none'}.")
    return WORLDS[name]


def split_name(name: str) -> tuple[str, str]:
    """``"world:kind"`` as (world, kind).

    Raises:
        NestedAdapterError: It has no colon.
    """
    world, colon, kind = name.partition(":")
    if not colon or not kind:
        raise NestedAdapterError(f"{name!r} is not of the form WORLD:KIND, such as 'miniature:people'.")
    return world, kind
