"""A pipeline that downloads into an empty cache, and folders that can be published."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline as tiny


@pytest.fixture(scope="session")
def only_pipeline() -> StableDiffusionXLPipeline:
    made = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def pipeline(only_pipeline: Any) -> Iterator[Any]:
    """A pipeline without adapters."""
    yield only_pipeline
    if only_pipeline.nested_adapters:
        only_pipeline.unload_nested_adapter()


@pytest.fixture(scope="session")
def saved_adapter(tmp_path_factory) -> Path:
    made = tiny.adapter(tiny.components()["unet"], subject_token="person")
    return tiny.save_adapter(tmp_path_factory.mktemp("saved"), made)


@pytest.fixture
def folder(saved_adapter: Path, tmp_path: Path) -> Path:
    """An adapter with its image encoder, which tests may modify."""
    return Path(shutil.copytree(saved_adapter, tmp_path / "adapter"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
