"""A tiny pipeline, an image encoder and a training set, and runs of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPImageProcessorPil

import tiny_pipeline as tiny
from accelerate_state import new_process, own_accelerator
from diffusers_nested import NestedAdapter
from diffusers_nested.data import Triplet
from diffusers_nested.training import TrainingConfig, train_adapter
from diffusers_nested.vision import ImageEncoder

__all__ = ["own_accelerator"]
CAPTIONS = ["a photo of a person", "a watercolor of a person in the snow"]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch):
    """Wait for no other run."""
    monkeypatch.setattr("diffusers_nested.training.train.PATIENCE", 0)


@pytest.fixture
def pipeline() -> StableDiffusionXLPipeline:
    made = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def image_encoder() -> ImageEncoder:
    size = {"height": 16, "width": 16}
    return ImageEncoder(tiny.image_encoder(), CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size))


@pytest.fixture
def triplets() -> list[Triplet]:
    return [Triplet(tiny.photo(i), CAPTIONS[i % 2], tiny.photo(100 + i)) for i in range(5)]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., TrainingConfig]:
    def make(output_dir: str = "run", **changes) -> TrainingConfig:
        small = {
            "resolution": 16,
            "train_batch_size": 2,
            "max_train_steps": 5,
            "learning_rate": 1e-2,
            "lr_warmup_steps": 1,
            "logging_steps": 3,
            "checkpointing_steps": 2,
            "cache_features": True,
        }
        return TrainingConfig(tmp_path / output_dir, **{**small, **changes})

    return make


@pytest.fixture
def train(pipeline, image_encoder, triplets) -> Callable[..., NestedAdapter]:
    """Trains a new adapter, always from the same weights."""

    def run(config: TrainingConfig, dataset=triplets, mechanism="nested", adapter=None, **more) -> NestedAdapter:
        made = adapter or {}
        fresh = tiny.adapter(pipeline.unet, mechanism=mechanism, **made)
        return train_adapter(pipeline, image_encoder, fresh, dataset, config, **more)

    return run


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where a run that has ended is kept, once a test has made it."""
    return {"folder": tmp_path_factory.mktemp("ended") / "run"}


@pytest.fixture
def run(ended, train, settings) -> Callable[..., TrainingConfig]:
    """Settings that resume the run that has ended; as it stands, or a copy of it."""
    folder = ended["folder"]
    if not folder.exists():
        made = settings(max_train_steps=4, checkpointing_steps=2)
        train(made)
        new_process()  # whichever test is the first
        shutil.copytree(made.folder, folder)

    def make(copy: bool = False, **changes: Any) -> TrainingConfig:
        config = settings("copy", **{"max_train_steps": 4, "resume_from_checkpoint": "latest", **changes})
        if copy:
            shutil.copytree(folder, config.folder)
            return config
        return TrainingConfig(**{**vars(config), "output_dir": folder})

    return make
