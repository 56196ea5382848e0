"""A world of ComfyUI for the tests of a module."""

from collections.abc import Iterator
from typing import Any

import comfyui_stand_in as comfyui
import pytest
from comfyui_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        models = tmp_path_factory.mktemp("models")
        comfyui.install(patch, models)
        yield World(models)


@pytest.fixture(scope="module")
def step(world: World) -> tuple[Any, ...]:
    return world.recorded(num_images_per_prompt=2)[0]
