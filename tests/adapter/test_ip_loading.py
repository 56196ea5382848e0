"""IP-Adapters loaded as with diffusers: names, folders, the Hub, and files that cannot be used."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil

import tiny_pipeline as tiny
import tiny_towers as towers
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError, Subject
from diffusers_nested.adapter.ip_adapter import IMPORTED_MECHANISM
from diffusers_nested.files.source import Source
from diffusers_nested.vision import find_image_encoder, load_image_encoder, locate_image_encoder
from hub.steps import check_untouched, generate, published
from ip_adapter_files import SMALL, base_encoder, layer_weights, repository, write
from sd15 import sd15_unet

REPO = "alice/ip"
PLUS = {"subfolder": "sdxl_models", "weight_name": "plus_small.safetensors"}
FROM_TOP = {"image_encoder_folder": "models/image_encoder"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return repository(tmp_path_factory.mktemp("ip"), tiny.components()["unet"])


def plus_file(folder: Path) -> Path:
    return folder / "sdxl_models" / "plus_small.safetensors"


@pytest.mark.parametrize(
    ("keywords", "kind", "tower"),
    [
        ({"subfolder": "models", "weight_name": "base.safetensors"}, "image_projection", "models"),
        ({"subfolder": "sdxl_models", "weight_name": "base.safetensors"}, "image_projection", "sdxl_models"),
        (
            {"subfolder": "sdxl_models", "weight_name": "base_small.safetensors", **FROM_TOP},
            "image_projection",
            "models",
        ),
        ({**PLUS, **FROM_TOP}, "resampler", "models"),
    ],
    ids=lambda value: value.get("weight_name") if isinstance(value, dict) else str(value),
)
def test_every_kind_finds_its_tower(hub, folder, pipeline, cache, keywords, kind, tower):
    published(hub, folder, REPO)
    plain = generate(pipeline, nested_adapter_image=None)
    pictures = []
    for location in (REPO, folder):
        pipeline.load_nested_adapter(location, cache_dir=cache, **keywords)
        adapter = pipeline.nested_adapters["person"]
        assert adapter.config["subject_encoder"] == kind
        assert adapter.config["mechanism"] == IMPORTED_MECHANISM
        pictures.append(generate(pipeline))
        pipeline.unload_nested_adapter()
    assert np.array_equal(*pictures) and not np.array_equal(pictures[0], plain)
    assert {path.split("/")[-3] for path in hub.downloads() if path.endswith("image_encoder/model.safetensors")} == {
        tower
    }


def test_the_file_itself_and_a_list_of_both_kinds(folder, saved_adapter, pipeline):
    pictures = []
    for mechanism in ("decoupled", "nested"):
        words = {"subject_token": ["pet", "person"], "mechanism": mechanism}
        pipeline.load_nested_adapter([folder / "models" / "base.safetensors", str(saved_adapter)], **words)
        tokens = {word: torch.ones(1, 5, 40) for word in words["subject_token"]}
        pictures.append(generate(pipeline, nested_adapter_image=None, nested_adapter_image_embeds=tokens))
        for name, adapter in pipeline.nested_adapters.items():
            assert (adapter.config["subject_token"], adapter.config["mechanism"]) == (name, mechanism)
            assert adapter.config["alpha"] == (2.0 if mechanism == "nested" else None)
        pipeline.unload_nested_adapter()
    assert not np.array_equal(*pictures)


def test_several_files_of_one_folder(folder, pipeline):
    names, words = ["base_small.safetensors", "plus_small.safetensors"], ["person", "pet"]
    keywords: dict[str, Any] = {"subfolder": "sdxl_models", "weight_name": names, "subject_token": words, **FROM_TOP}
    pipeline.load_nested_adapter(folder, **keywords)
    kinds = {word: adapter.config["subject_encoder"] for word, adapter in pipeline.nested_adapters.items()}
    assert kinds == {"person": "image_projection", "pet": "resampler"}
    pipeline.unload_nested_adapter()
    with pytest.raises(NestedAdapterError, match="2 adapters, but 1 values"):
        pipeline.load_nested_adapter(folder, **{**keywords, "subject_token": ["person"]})


@pytest.mark.parametrize("dtype", ["fp16", torch.int8], ids=str)
def test_types_that_weights_cannot_have_are_refused(folder, pipeline, dtype):
    with pytest.raises(AdapterLoadError, match=r"torch_dtype.*torch\.float16"):
        pipeline.load_nested_adapter(folder, **PLUS, torch_dtype=dtype)


def test_a_list_from_the_hub_with_a_name_for_one_of_them(hub, folder, saved_adapter, pipeline, cache):
    published(hub, folder, REPO)
    pipeline.load_nested_adapter(
        [str(saved_adapter), REPO],
        subfolder=[None, "models"],
        weight_name=[None, "base.safetensors"],
        subject_token=[None, "pet"],
        mechanism="nested",
        cache_dir=cache,
    )
    assert list(pipeline.nested_adapters) == ["person", "pet"]
    generate(pipeline, nested_adapter_image={"person": tiny.photo(3), "pet": tiny.photo(4)})


def test_an_adapter_in_memory_finds_the_tower_of_its_file(folder, pipeline):
    adapter = NestedAdapter.from_ip_adapter(folder, **PLUS, unet=pipeline.unet)
    with pytest.raises(AdapterLoadError, match="of width 32, but the adapter reads 24"):
        pipeline.load_nested_adapter(adapter)
    pipeline.load_nested_adapter(adapter, **FROM_TOP)
    generate(pipeline)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("image_encoder", "sub/image_encoder"), ("tower", "sub/tower"), ("a/tower", "a/tower"), ("top", None)],
)
def test_where_the_folder_of_a_tower_is(tmp_path, given, expected):
    for name in ("sub/image_encoder", "image_encoder", "sub/tower", "tower", "sub/a/tower", "a/tower", "top"):
        tiny.image_encoder().save_pretrained(tmp_path / name)
    config, source = {"image_encoder": None, "image_feature_dim": SMALL[0]}, Source(str(tmp_path), "sub")
    if expected is None:
        with pytest.raises(AdapterLoadError, match=r"no sub/top/config\.json, so image_encoder_folder cannot be 'top'"):
            locate_image_encoder(config, source, given, is_ip_adapter=True)
    else:
        tower = find_image_encoder(config, source, given, is_ip_adapter=True)
        assert tower.folder == expected


def test_a_tower_of_another_family_is_refused(folder, pipeline, tmp_path):
    """Even if its features are as wide."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "models" / "image_encoder")
    towers.model("siglip", width=SMALL[0]).save_pretrained(tmp_path / "models" / "image_encoder")
    with pytest.raises(
        AdapterLoadError, match=r"is a 'siglip_vision_model', but the adapter reads a 'clip_vision_model'"
    ):
        pipeline.load_nested_adapter(tmp_path, **PLUS, **FROM_TOP)
    assert not pipeline.nested_adapters


def test_a_second_load_is_from_the_cache_and_a_forced_one_is_not(hub, folder, pipeline, cache):
    published(hub, folder, REPO)
    keywords = {"cache_dir": cache, **PLUS, **FROM_TOP}
    pipeline.load_nested_adapter(REPO, **keywords)
    hub.requests.clear()
    pipeline.load_nested_adapter(REPO, **keywords, adapter_name="again", local_files_only=True)
    assert not hub.requests
    pipeline.load_nested_adapter(REPO, **keywords, adapter_name="forced", force_download=True)
    assert sum(path.endswith("plus_small.safetensors") for path in hub.downloads()) == 1


def test_what_another_program_has_downloaded_needs_no_connection(hub, folder, pipeline, cache):
    """Which knows nothing of a config.json beside the file."""
    published(hub, folder, REPO)
    Source(REPO, cache_dir=cache).find("sdxl_models/plus_small.safetensors")
    hub.requests.clear()
    keywords = {"cache_dir": cache, **PLUS, "local_files_only": True, "image_encoder_folder": None}
    pipeline.load_nested_adapter(REPO, **keywords)
    assert not hub.requests
    with pytest.raises(AdapterLoadError, match="has not been downloaded"):
        pipeline.load_nested_adapter(REPO, **{**keywords, "weight_name": "base.safetensors"}, adapter_name="other")
    for name in ("config.json", "model.safetensors"):  # of the tower, as load_ip_adapter downloads it
        Source(REPO, cache_dir=cache).find(f"models/image_encoder/{name}")
    pipeline.load_nested_adapter(REPO, **{**keywords, **FROM_TOP}, adapter_name="with a tower")
    generate(pipeline, nested_adapter_image=Subject(tiny.photo(), token="person", adapter_name="with a tower"))


def test_photos_are_prepared_as_diffusers_does(folder, pipeline, tmp_path):
    """Unless there is preprocessing beside the tower."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    other = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_mean=[0.9] * 3
    )
    other.save_pretrained(tmp_path / "models" / "feature_extractor")
    pipeline.load_ip_adapter(str(folder), **PLUS, **FROM_TOP)
    theirs = pipeline.feature_extractor
    pipeline.unload_ip_adapter()
    config, where = {"image_encoder": None, "image_feature_dim": SMALL[0]}, "models/image_encoder"
    for location, processor in ((folder, theirs), (tmp_path, other)):
        tower = find_image_encoder(config, Source(str(location)), where, is_ip_adapter=True)
        ours, expected = (
            one(images=[tiny.photo(3, 21)], return_tensors="pt").pixel_values
            for one in (load_image_encoder(tower).processor, processor)
        )
        assert torch.equal(ours, expected)


def test_revision_and_token(hub, folder, pipeline, cache, tmp_path):
    first = published(hub, folder, REPO, private=True)
    published(hub, tmp_path, REPO)
    keywords = {"cache_dir": cache, **PLUS, "image_encoder_folder": None}
    with pytest.raises(AdapterLoadError, match="token"):
        pipeline.load_nested_adapter(REPO, revision=first, **keywords)
    with pytest.raises(AdapterLoadError, match=r"no file 'sdxl_models/plus_small\.safetensors'"):
        pipeline.load_nested_adapter(REPO, token="token-alice", **keywords)
    pipeline.load_nested_adapter(REPO, token="token-alice", revision=first, **keywords)
    assert pipeline.nested_adapters["person"].origin.revision == first


# What is refused: a change of the file's tensors (None removes one), keywords, and what the message says.
def without(*names: str):
    return lambda weights: [weights.pop(name) for name in names]


def with_shape(name: str, *shape: int):
    return lambda weights: weights.update({name: torch.zeros(shape)})


def renamed(old: str, new: str):
    return lambda weights: weights.update({new: weights.pop(old)})


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
    with pytest.raises(AdapterLoadError, match=r"7 cross-attention layers.*no known base model has.*as unet"):
        NestedAdapter.from_ip_adapter(plus_file(folder))
    made = NestedAdapter.from_ip_adapter(plus_file(folder), unet=tiny.unet(), mechanism="nested", alpha=3.0)
    assert (made.config["subject_token"], made.config["alpha"]) == ("person", 3.0)
