"""Image encoders on the Hub: in a repository of their own, shared, left out, or gone."""

import numpy as np
import pytest

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError
from diffusers_nested.vision import load_vision_tower
from hub.steps import generate, move_encoder, published


def test_an_image_encoder_that_two_adapters_name_is_shared(hub, folder, pipeline, cache, tmp_path):
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    move_encoder(folder, hub)
    published(hub, folder)
    pets = tiny.adapter(pipeline.unet, seed=5, subject_token="pet", image_encoder="alice/towers/models/image_encoder")
    pets.save_pretrained(tmp_path / "pets")
    published(hub, tmp_path / "pets", "alice/pets")

    pipeline.load_nested_adapter(["alice/nested", "alice/pets"], cache_dir=cache)
    first, second = (one.encoder for one in pipeline.unet._nested_adapter_state.loaded.values())
    assert first is second
    assert [path for path in hub.downloads() if "towers" in path and path.endswith("model.safetensors")] != []
    assert np.array_equal(generate(pipeline, nested_adapter_image={"person": tiny.photo(3)}), expected)


def test_a_shared_image_encoder_is_not_read_a_second_time(hub, folder, pipeline, cache, tmp_path):
    move_encoder(folder, hub)
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    (weights,) = cache.glob("models--alice--towers/snapshots/*/models/image_encoder/model.safetensors")
    weights.resolve().write_bytes(b"no longer readable")  # loading it again would fail
    pets = tiny.adapter(pipeline.unet, seed=5, subject_token="pet", image_encoder="alice/towers/models/image_encoder")
    pets.save_pretrained(tmp_path / "pets")
    published(hub, tmp_path / "pets", "alice/pets")
    pipeline.load_nested_adapter("alice/pets", cache_dir=cache)
    assert list(pipeline.nested_adapters) == ["person", "pet"]


def test_without_image_encoder_none_is_downloaded(hub, folder, pipeline, cache):
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", image_encoder_folder=None, cache_dir=cache)
    assert not [request for request in hub.requests if "image_encoder" in request.path]


def test_an_image_encoder_that_is_gone_names_the_way_out(hub, folder, pipeline, cache):
    move_encoder(folder, hub)
    del hub.repos["alice/towers"]
    published(hub, folder)
    with pytest.raises(AdapterLoadError, match=r"alice/towers.*image_encoder_folder=None"):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)


def test_a_vision_tower_by_its_name(hub, folder):
    published(hub, folder, "alice/tower-by-name")
    tower = load_vision_tower("alice/tower-by-name/image_encoder")
    assert tower.feature_dim == tiny.FEATURES
    assert tower.processor.crop_size["height"] == 16  # its own preprocessing, not CLIP's
    with pytest.raises(AdapterLoadError, match="nothing"):
        load_vision_tower("alice/nothing/image_encoder")
