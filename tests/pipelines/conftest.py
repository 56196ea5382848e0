"""Adapters on disk, as a user has them."""

import pytest

import tiny_pipeline


@pytest.fixture(scope="session")
def adapters(tmp_path_factory):
    """Folders of two adapters for the tiny UNet: "person" and "pet"."""
    folder = tmp_path_factory.mktemp("adapters")
    unet = tiny_pipeline.components()["unet"]
    return {
        word: tiny_pipeline.save_adapter(folder / word, tiny_pipeline.adapter(unet, seed, subject_token=word))
        for seed, word in enumerate(("person", "pet"), start=1)
    }
