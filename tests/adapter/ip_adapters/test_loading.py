"""IP-Adapters loaded as with diffusers: names, lists, folders, the Hub and its cache."""

from typing import Any

import numpy as np
import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError, Subject
from diffusers_nested.adapter.ip_adapter import IMPORTED_MECHANISM
from diffusers_nested.files.source import Source
from hub.steps import generate, published
from ip_adapter_files import FROM_TOP, PLUS, REPO


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
