"""Training that begins with an IP-Adapter's weights."""

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.training import train_adapter
from ip_adapter_files import repository


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return repository(tmp_path_factory.mktemp("ip"), tiny.components()["unet"])


@pytest.mark.parametrize("name", ["base_small", "plus_small"])
def test_a_nested_adapter_learns_from_there(pipeline, image_encoder, triplets, settings, folder, tmp_path, name):
    start = NestedAdapter.from_ip_adapter(folder / "sdxl_models" / f"{name}.safetensors", unet=pipeline.unet)
    config = settings(max_train_steps=2, cache_folder=tmp_path / "features", learning_rate=1e-3)
    made = NestedAdapter.from_unet(pipeline.unet, start_from=start)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    train_adapter(pipeline, image_encoder, made, triplets, config)
    moved = [name for name, tensor in made.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any(name.startswith("encoder.") for name in moved)
    assert any(name.startswith("projections.") for name in moved)
    largest = max((made.state_dict()[name] - before[name]).abs().max() for name in moved)
    assert largest < 0.01  # two steps away from its start
    saved = NestedAdapter.from_pretrained(config.folder, unet=pipeline.unet)
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in saved.state_dict().items())
    assert saved.config["mechanism"] == "nested"
    assert list((tmp_path / "features").glob("*.pt"))


def test_validation_pictures_of_a_mechanism_that_reads_an_empty_image(
    pipeline, image_encoder, triplets, settings, folder
):
    file = folder / "sdxl_models" / "plus_small.safetensors"
    made = NestedAdapter.from_unet(pipeline.unet, start_from=file, mechanism="decoupled")
    config = settings(max_train_steps=2, validation_steps=2, validation_prompts=["a photo of a person"])
    train_adapter(pipeline, image_encoder, made, triplets[:2], config, [tiny.photo(9)])
    assert list(config.folder.rglob("*.png")) and not pipeline.nested_adapters


def test_another_tower_is_refused(pipeline, image_encoder, triplets, settings, folder):
    made = NestedAdapter.from_unet(pipeline.unet, start_from=folder / "sdxl_models" / "base.safetensors")
    with pytest.raises(NestedAdapterError, match=r"width 16, the adapter reads 20.*trained with"):
        train_adapter(pipeline, image_encoder, made, triplets, settings(max_train_steps=2))
