"""Files of IP-Adapters that cannot be used, and names and settings that do not fit them."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError
from hub.steps import check_untouched, published
from ip_adapter_files import PLUS, REPO, base_encoder, layer_weights, plus_file, write
from sd15 import sd15_unet


@pytest.mark.parametrize("dtype", ["fp16", torch.int8], ids=str)
def test_types_that_weights_cannot_have_are_refused(folder, pipeline, dtype):
    with pytest.raises(AdapterLoadError, match=r"torch_dtype.*torch\.float16"):
        pipeline.load_nested_adapter(folder, **PLUS, torch_dtype=dtype)


# What is refused: a change of the file's tensors (None removes one), keywords, and what the message says.
def without(*names: str):
    return lambda weights: [weights.pop(name) for name in names]


def with_shape(name: str, *shape: int):
    return lambda weights: weights.update({name: torch.zeros(shape)})


def with_type(name: str, dtype: torch.dtype):
    return lambda weights: weights.update({name: weights[name].to(dtype)})


def only(*names: str):
    def change(weights: dict[str, Any]) -> None:
        weights.clear()
        weights.update({name: torch.zeros(2, 2) for name in names})

    return change


def not_a_number(weights: dict[str, Any]) -> None:
    weights["image_proj.latents"][0, 0, 0] = torch.nan


def same(weights: dict[str, Any]) -> None:
    pass


TO_Q, TO_KV = (f"image_proj.layers.{i}.0.to_{name}.weight" for i, name in ((0, "q"), (1, "kv")))
REFUSED = {
    "no latents": (without("image_proj.latents"), {}, "lacks the tensor image_proj.latents.*plus-face"),
    "a tensor less": (without("image_proj.norm_out.bias"), {}, r"misses 1 tensor \(image_proj.norm_out.bias\)"),
    "a tensor more": (with_shape("image_proj.more", 2), {}, "1 unknown tensor .*image_proj.more"),
    "no values": (without("ip_adapter.3.to_v_ip.weight"), {}, r"misses.*ip_adapter\.3\.to_v_ip\.weight"),
    "no keys": (without("ip_adapter.3.to_k_ip.weight"), {}, r"lacks the tensor ip_adapter\.3\.to_k_ip\.weight"),
    "a layer less": (
        without("ip_adapter.5.to_k_ip.weight", "ip_adapter.5.to_v_ip.weight"),
        {},
        r"1, 3, 5, … without gaps; wrong or missing: ip_adapter\.5\.",
    ),
    "odd rows of keys and values": (
        with_shape(TO_KV, 127, 64),
        {},
        r"to_kv\.weight: \(127, 64\) instead of \(128, 64\)",
    ),
    "no whole heads": (with_shape(TO_Q, 100, 64), {}, r"inner width 100 \(image_proj.*expected a multiple of 64"),
    "no matrix": (with_shape(TO_Q, 64), {}, r"has the shape \(64,\)"),
    "not a number": (not_a_number, {}, "NaN"),
    "FaceID": (only("image_proj.norm.weight", "image_proj.proj.0.weight"), {}, "FaceID, which.*face recogniser.*LoRA"),
    "FaceID Plus": (only("image_proj.perceiver_resampler.proj_in.weight"), {}, "FaceID Plus, which.*load_ip_adapter"),
    "full face": (only("image_proj.proj.3.weight"), {}, '"full face".*257 tokens.*plus-face'),
    "another model": (
        only("lora.down", "lora.up"),
        {},
        "not the file of an IP-Adapter: its tensors are lora.down, lora.up",
    ),
    "whole numbers": (
        with_type("image_proj.latents", torch.int8),
        {},
        "of types other than F16",
    ),
    "the tower of others": (same, {"image_encoder_folder": "image_encoder"}, "of width 32, but the adapter reads 24"),
    "no such tower": (same, {"image_encoder_folder": "no/tower"}, r"no no/tower/config\.json, so image_encoder_folder"),
    "a pickle": (
        same,
        {"weight_name": "plus_small.bin"},
        r"'plus_small\.bin' is a pickle.*Give 'plus_small\.safetensors'",
    ),
    "a misspelt name": (
        same,
        {"weight_name": "plus-small.safetensors"},
        r"such as sdxl_models/plus_small\.safetensors",
    ),
    "no name": (same, {"weight_name": None}, r"no sdxl_models/config\.json.*of an IP-Adapter.*weight_name=\.\.\."),
    "a variant": (same, {"variant": "fp16"}, "leave out variant"),
    "another projection": (same, {"mechanism": "simple"}, "'simple'.*other projections.*act as decoupled, .*nested"),
    "no such mechanism": (same, {"mechanism": "nestled"}, "Unknown mechanism 'nestled'"),
    "no word": (same, {"subject_token": ""}, "subject_token must be a word.*got ''"),
    "word of another type": (same, {"subject_token": [3]}, "subject_token must be a word.*got 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(folder, pipeline, tmp_path, name):
    change, keywords, named = REFUSED[name]
    weights = load_file(plus_file(folder))
    change(weights)
    (tmp_path / "sdxl_models").mkdir()
    top = tmp_path if change is not same else folder
    if change is not same:
        save_file(weights, plus_file(tmp_path))
    processors = pipeline.unet.attn_processors
    with pytest.raises(NestedAdapterError, match=named) as caught:
        pipeline.load_nested_adapter(top, **{**PLUS, **keywords})
    assert len(str(caught.value)) < 700 and str(caught.value)[-1] in ".)"
    check_untouched(pipeline, processors)


def test_a_truncated_file_and_one_of_another_base(folder, pipeline, tmp_path):
    processors = pipeline.unet.attn_processors
    (tmp_path / "half.safetensors").write_bytes(plus_file(folder).read_bytes()[:5000])
    with pytest.raises(AdapterLoadError, match=r"half\.safetensors is not a whole safetensors file"):
        pipeline.load_nested_adapter(tmp_path / "half.safetensors")
    with torch.device("meta"):
        widths = [one.to_k.out_features for name, one in sd15_unet().named_modules() if name.endswith("attn2")]
    random = torch.Generator().manual_seed(0)
    other = write(tmp_path / "sd15.safetensors", base_encoder(16, 8, random), layer_weights(widths, 8, random))
    with pytest.raises(
        AdapterLoadError, match=r"16 cross-attention layers \(5 of width 320.*the UNet 7.*this base model"
    ):
        pipeline.load_nested_adapter(other)
    check_untouched(pipeline, processors)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"weight_name": "other.safetensors"}, "is the file itself, and weight_name is 'other.safetensors'"),
        ({"subfolder": "models"}, "is the file itself, and subfolder is 'models'"),
    ],
)
def test_the_file_itself_needs_no_names(folder, pipeline, keywords, named):
    with pytest.raises(AdapterLoadError, match=named):
        pipeline.load_nested_adapter(plus_file(folder), **keywords)


def test_other_files_by_their_path(folder, pipeline, tmp_path):
    (tmp_path / "ip.bin").write_bytes(b"")
    with pytest.raises(AdapterLoadError, match=r"is a pickle.*'ip\.safetensors'"):
        pipeline.load_nested_adapter(tmp_path / "ip.bin")
    (tmp_path / "ip.txt").write_text("")
    with pytest.raises(AdapterLoadError, match="is a file"):
        pipeline.load_nested_adapter(tmp_path / "ip.txt")


def test_on_the_hub_the_nearest_names_are_not_known_and_pickles_not_asked_for(hub, folder, pipeline, cache):
    published(hub, folder, REPO)
    with pytest.raises(AdapterLoadError, match=r"no file 'models/bas\.safetensors'"):
        pipeline.load_nested_adapter(REPO, "models", "bas.safetensors", cache_dir=cache)
    hub.requests.clear()
    with pytest.raises(AdapterLoadError, match="pickle"):
        pipeline.load_nested_adapter(REPO, "models", "base.bin", cache_dir=cache)
    assert not hub.requests


def test_from_pretrained_names_the_other_way(folder):
    for name, keywords in ((folder, PLUS), (plus_file(folder), {})):
        with pytest.raises(AdapterLoadError, match=r"config\.json.*NestedAdapter\.from_ip_adapter"):
            NestedAdapter.from_pretrained(name, **keywords)


def test_settings_that_the_weights_determine(folder):
    with pytest.raises(NestedAdapterError, match=r"num_queries is 8, but the weights.*open are subject_token"):
        NestedAdapter.from_ip_adapter(plus_file(folder), num_queries=8)
    with pytest.raises(AdapterLoadError, match=r"has no weight_name.*weight_name=\.\.\."):
        NestedAdapter.from_ip_adapter(folder, subfolder="models")
    with pytest.raises(NestedAdapterError, match="alpha must be None"):
        NestedAdapter.from_ip_adapter(plus_file(folder), unet=tiny.unet(), mechanism="decoupled", alpha=2.0)
    with pytest.raises(AdapterLoadError, match=r"7 cross-attention layers.*no known base model has.*unet=pipe.unet"):
        NestedAdapter.from_ip_adapter(plus_file(folder))
    made = NestedAdapter.from_ip_adapter(plus_file(folder), unet=tiny.unet(), mechanism="nested", alpha=3.0)
    assert (made.config["subject_token"], made.config["alpha"]) == ("person", 3.0)
