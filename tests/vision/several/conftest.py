"""An adapter of two towers, saved with them."""

import shutil
from pathlib import Path

import pytest

import tiny_pipeline as tiny
from two_towers import pair, save_pair


@pytest.fixture(scope="module")
def saved_pair(tmp_path_factory) -> Path:
    """An adapter of two towers, saved with them."""
    folder = save_pair(tmp_path_factory.mktemp("pair"))
    tiny.adapter(tiny.components()["unet"], **pair(folder).adapter_settings()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved_pair: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_pair, tmp_path / "adapter"))
