"""A tiny adapter, the UNet that it is made for, and a folder with it."""

from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel

from diffusers_nested.adapter import NestedAdapter
from tiny import tiny_adapter, tiny_unet


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny_unet()


@pytest.fixture(scope="module")
def adapter(unet: UNet2DConditionModel) -> NestedAdapter:
    return tiny_adapter(unet)


@pytest.fixture
def folder(adapter: NestedAdapter, tmp_path: Path) -> Path:
    """A saved adapter, to be damaged."""
    adapter.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"
