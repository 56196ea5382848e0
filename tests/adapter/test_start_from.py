"""New adapters that begin with the weights of another one."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError
from hub.steps import generate, published
from ip_adapter_files import repository

FILE = "sdxl_models/plus_small.safetensors"


@pytest.fixture(scope="module")
def unet():
    return tiny.components()["unet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, unet) -> Path:
    return repository(tmp_path_factory.mktemp("ip"), unet)


@pytest.fixture(scope="module")
def imported(folder, unet) -> NestedAdapter:
    return NestedAdapter.from_ip_adapter(folder / FILE, unet=unet)


def check_same(made: NestedAdapter, other: NestedAdapter) -> None:
    ours, theirs = made.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, theirs[name].float(), rtol=0, atol=0)
        assert tensor.data_ptr() != theirs[name].data_ptr()


def test_every_form_of_a_start(hub, folder, unet, imported, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    imported.save_pretrained(tmp_path / "converted" / "v1")
    published(hub, folder, "alice/ip")
    published(hub, tmp_path / "converted", "alice/converted")
    starts = [imported, folder / FILE, str(folder / FILE), tmp_path / "converted" / "v1", f"alice/ip/{FILE}"]
    for start in [*starts, "alice/converted/v1"]:
        made = NestedAdapter.from_unet(unet, start_from=start)
        check_same(made, imported)
        assert (made.config["mechanism"], made.config["alpha"]) == ("nested", 2.0)
        assert made.training and all(one.requires_grad for one in made.parameters())
        same = ("num_queries", "subject_encoder", "subject_token", "image_feature_dim", "image_encoder")
        assert all(made.config[name] == imported.config[name] for name in same)


def test_what_the_weights_leave_open(unet, imported):
    settings = {"subject_token": "pet", "alpha": 3.0, "image_encoder": "user/tower", "mechanism": "global_value"}
    with pytest.raises(NestedAdapterError, match=r"'global_value'.*other projections.*act as decoupled,.*nested"):
        NestedAdapter.from_unet(unet, start_from=imported, **settings)
    made = NestedAdapter.from_unet(unet, start_from=imported, **{**settings, "mechanism": "nested"})
    assert {name: made.config[name] for name in settings} == {**settings, "mechanism": "nested"}
    assert NestedAdapter.from_unet(unet, start_from=imported, mechanism="decoupled").config["alpha"] is None
    width = {"image_feature_dim": imported.config["image_feature_dim"], "num_queries": 16}
    check_same(NestedAdapter.from_unet(unet, start_from=imported, **width), imported)


def test_from_an_adapter_of_ours_in_half_precision(unet):
    start = tiny.adapter(unet, mechanism="decoupled", subject_token="pet").half()
    made = NestedAdapter.from_unet(unet, start_from=start)
    check_same(made, start)
    assert (made.config["subject_token"], made.config["mechanism"], made.config["alpha"]) == ("pet", "nested", 2.0)
    with torch.no_grad():
        made.encoder.queries.zero_()
    assert start.encoder.queries.any()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_queries": 8}, r"num_queries is 8, but the adapter to start from has 16.*Leave out num_queries"),
        ({"image_feature_dim": 99}, "image_feature_dim is 99, but the adapter to start from has 24"),
        ({"resampler_num_layers": 2}, "resampler_num_layers is 2"),
        ({"qformer_num_layers": 2}, "qformer_num_layers is 2, but the adapter to start from has no such setting"),
        ({"subject_encoder": "qformer"}, "subject_encoder is 'qformer', but the adapter to start from has 'resampler'"),
        ({"mechanism": "nestled"}, "Unknown mechanism"),
        ({"subject_token": ""}, "subject_token must be"),
    ],
    ids=str,
)
def test_contradicting_settings(unet, imported, settings, named):
    with pytest.raises(NestedAdapterError, match=named):
        NestedAdapter.from_unet(unet, start_from=imported, **settings)


def test_what_cannot_be_started_from(hub, unet, imported, folder):
    with pytest.raises(NestedAdapterError, match=r"image_feature_dim is missing.*start_from"):
        NestedAdapter.from_unet(unet)
    with pytest.raises(NestedAdapterError, match="Cannot start from a dict"):
        NestedAdapter.from_unet(unet, start_from={})
    with pytest.raises(AdapterLoadError, match=r"another UNet: it has 7 layers|of width"):
        NestedAdapter.from_unet(tiny.unet(block_out_channels=(32, 96)), start_from=imported)
    with pytest.raises(AdapterLoadError, match="7 cross-attention layers"):
        NestedAdapter.from_unet(tiny.unet(block_out_channels=(32, 96)), start_from=folder / FILE)
    for name in ("/no/such/folder/file.safetensors", "no\\folder", "nobody"):
        with pytest.raises(AdapterLoadError, match="There is no folder"):
            NestedAdapter.from_unet(unet, start_from=name)
    assert not hub.requests
    with pytest.raises(AdapterLoadError, match="no/such"):
        NestedAdapter.from_unet(unet, start_from="no/such/file.safetensors")
    with pytest.raises(AdapterLoadError, match=r"is a pickle"):
        NestedAdapter.from_unet(unet, start_from="no/such/file.bin")


def test_it_reads_the_image_encoder_of_its_start(pipeline, folder):
    made = NestedAdapter.from_unet(pipeline.unet, start_from=folder / "models" / "base.safetensors")
    pipeline.load_nested_adapter(made)
    pipeline.load_nested_adapter(folder / "models" / "base.safetensors", adapter_name="start", mechanism="nested")
    pictures = []
    for name in ("person", "start"):
        pipeline.set_nested_adapter_scale(1.0)
        embeds = pipeline.encode_nested_adapter_image(tiny.photo(3), name)
        pictures.append(embeds.numpy())
    assert np.array_equal(*pictures)
    pipeline.unload_nested_adapter("start")
    generate(pipeline)
