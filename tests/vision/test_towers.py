"""Which vision tower an adapter reads: loading, inspection and the card follow the same rule."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPVisionModelWithProjection

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter
from diffusers_nested.adapter import inspect_adapter
from diffusers_nested.cli.inspect import describe
from diffusers_nested.errors import PublishError
from diffusers_nested.files.source import Source
from diffusers_nested.publishing import prepare_publication
from diffusers_nested.vision import load_vision_tower
from hub.steps import ALICE, published

# Places of towers; the width of the projection, which is not used, tells them apart.
TOWERS = {"beside": 12, "top": 14, "mine": 18, "named": 20, "here": 22}
NAMED = "alice/towers/models/enc"

# Existing towers; name in the config; the adapter's folder; image_encoder_folder; the tower that is read.
DEFAULT = "image_encoder"
LAYOUTS: dict[str, tuple[set[str], str | None, str | None, str, str | None]] = {
    "its own": ({"beside"}, None, None, DEFAULT, "beside"),
    "its own before one that its config names": ({"beside"}, NAMED, None, DEFAULT, "beside"),
    "one that its config names": (set(), NAMED, None, DEFAULT, "named"),
    "a whole repository that its config names": (set(), "alice/tower", None, DEFAULT, "named"),
    "another folder of its repository by name": ({"top", "mine"}, "alice/nested/mine", "people", DEFAULT, "mine"),
    "none": (set(), None, None, DEFAULT, None),
    "in a sub-folder, its own": ({"beside", "top"}, NAMED, "people", DEFAULT, "beside"),
    "in a sub-folder, one that its config names": ({"top"}, NAMED, "people", DEFAULT, "named"),
    "in a sub-folder, one for all": ({"top"}, None, "people", DEFAULT, "top"),
    "deeper, one for all": ({"top"}, None, "./people/v1/", DEFAULT, "top"),
    "the user's before all": ({"beside", "top", "mine"}, NAMED, "people", "mine", "mine"),
    "the user's, at the top": ({"mine"}, NAMED, None, "./mine/", "mine"),
    "the user's that is not there": ({"beside", "top"}, NAMED, "people", "mine", None),
}


@pytest.fixture(scope="session")
def towers(tmp_path_factory) -> dict[str, Path]:
    """One tower for each place, with the preprocessing in its own folder."""
    folders = {}
    for name, width in TOWERS.items():
        folders[name] = tmp_path_factory.mktemp("towers") / name
        config = tiny.image_encoder().config
        config.projection_dim = width
        CLIPVisionModelWithProjection(config).save_pretrained(folders[name])
        tiny.image_processor().save_pretrained(folders[name])
    return folders


def lay_out(top: Path, saved: Path, towers: dict[str, Path], layout: tuple) -> Path:
    """The adapter's folder, within `top`."""
    present, named, subfolder, _, _ = layout
    folder = top / (subfolder or "")
    shutil.copytree(saved, folder, ignore=shutil.ignore_patterns("image_encoder", "feature_extractor"))
    change_config(folder, image_encoder=named)
    places = {"beside": folder / "image_encoder", "top": top / "image_encoder", "mine": top / "mine"}
    for name in present:
        shutil.copytree(towers[name], places[name])
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def publish_named(hub, towers: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(towers["named"], tmp_path / "named" / "models" / "enc")
    published(hub, tmp_path / "named", "alice/towers")
    published(hub, towers["named"], "alice/tower")


def read_by(pipeline: Any, *arguments: Any, **keywords: Any) -> str | None:
    """Which tower the pipeline loads."""
    try:
        pipeline.load_nested_adapter(*arguments, **keywords)
    except AdapterLoadError:
        return None
    (encoder,) = (one.encoder for one in pipeline.unet._nested_adapter_state.loaded.values())
    pipeline.unload_nested_adapter()
    return {width: name for name, width in TOWERS.items()}[encoder.model.config.projection_dim]


@pytest.mark.parametrize("where", ["folder", "hub"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_all_read_the_same_tower(hub, pipeline, saved_adapter, towers, tmp_path, cache, name, where):
    _, named, subfolder, folder_name, expected = LAYOUTS[name]
    folder = lay_out(tmp_path / "repository", saved_adapter, towers, LAYOUTS[name])
    publish_named(hub, towers, tmp_path)
    published(hub, tmp_path / "repository")
    location = str(tmp_path / "repository") if where == "folder" else "alice/nested"
    keywords = {"subfolder": subfolder, "image_encoder_folder": folder_name, "cache_dir": str(cache)}
    assert read_by(pipeline, location, **keywords) == expected
    if folder_name != DEFAULT:
        return

    said = {"beside": "image_encoder/, its own", "top": f"image_encoder/, at the top of {location}"}
    said |= {"named": named, "mine": named}
    found = inspect_adapter(Source(location, subfolder, cache_dir=str(cache)))
    assert (said.get(expected or "") or "none: give embeddings") in describe("x", found)
    weights = [file.name for file in found.files if file.name.endswith("/model.safetensors")]
    assert len(weights) == (expected in ("beside", "top"))

    try:
        card = (
            prepare_publication(folder, "alice/other", load=NestedAdapter.from_source, base_model="user/base")
            .card()
            .content
        )
    except PublishError:
        assert expected in ("top", None)  # a shared tower is not published with an adapter
    else:
        assert {"beside": "in `image_encoder/`"}.get(expected or "", str(named)) in card


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_a_name_is_the_hubs_whatever_folders_are_here(
    hub, pipeline, saved_adapter, towers, tmp_path, cache, where, monkeypatch
):
    lay_out(tmp_path / "repository", saved_adapter, towers, LAYOUTS["one that its config names"])
    publish_named(hub, towers, tmp_path)
    published(hub, tmp_path / "repository")
    shutil.copytree(towers["here"], tmp_path / NAMED)
    monkeypatch.chdir(tmp_path)
    location = "repository" if where == "folder" else "alice/nested"
    assert read_by(pipeline, location, cache_dir=cache) == "named"
    made = NestedAdapter.from_pretrained(location, cache_dir=cache)
    assert read_by(pipeline, made, cache_dir=cache) == "named"
    del hub.repos["alice/towers"]
    with pytest.raises(AdapterLoadError, match="absolute path" if where == "folder" else NAMED):
        pipeline.load_nested_adapter(location, cache_dir=tmp_path / "other")
    assert load_vision_tower(NAMED).model.config.projection_dim == TOWERS["here"]  # from the user, it means the folder


def test_a_path_is_taken_from_this_machines_own_adapters_only(
    hub, pipeline, saved_adapter, towers, tmp_path, cache, monkeypatch
):
    layout = (set(), str(towers["here"]), None, DEFAULT, None)
    folder = lay_out(tmp_path / "repository", saved_adapter, towers, layout)
    published(hub, folder)
    assert read_by(pipeline, folder) == "here"
    assert read_by(pipeline, NestedAdapter.from_pretrained(folder)) == "here"
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache, image_encoder_folder=None)
    loaded = pipeline.nested_adapters["person"]
    pipeline.unload_nested_adapter()
    (snapshot,) = cache.glob("models--alice--nested/snapshots/*")
    for strange in ("alice/nested", loaded, NestedAdapter.from_pretrained("alice/nested", cache_dir=cache), snapshot):
        with pytest.raises(AdapterLoadError, match="not user/repo"):
            pipeline.load_nested_adapter(strange, cache_dir=cache)


@pytest.mark.parametrize("subfolder", [None, "people"])
def test_an_adapter_in_memory_reads_the_tower_of_its_source(
    hub, pipeline, saved_adapter, towers, tmp_path, cache, subfolder
):
    layout = ({"beside", "top"} if subfolder else {"beside"}, NAMED, subfolder, DEFAULT, "beside")
    top = tmp_path / "repository"
    lay_out(top, saved_adapter, towers, layout)
    publish_named(hub, towers, tmp_path)
    published(hub, top)
    keywords = {"subfolder": subfolder, "cache_dir": cache}
    for location in (top, "alice/nested"):
        made = NestedAdapter.from_pretrained(location, **keywords)
        assert read_by(pipeline, made, cache_dir=cache) == "beside"
        pipeline.load_nested_adapter(location, image_encoder_folder=None, **keywords)
        made = pipeline.nested_adapters["person"]
        pipeline.unload_nested_adapter()
        assert read_by(pipeline, made, cache_dir=cache) == "beside"
    shutil.rmtree(top)
    made = NestedAdapter.from_pretrained("alice/nested", token=ALICE, **keywords)
    assert made.origin is not None and made.origin.token is None and ALICE not in repr(vars(made.origin))


def test_somebody_elses_tower_is_named_before_it_is_fetched(
    hub, pipeline, saved_adapter, towers, tmp_path, cache, caplog
):
    lay_out(tmp_path / "repository", saved_adapter, towers, LAYOUTS["one that its config names"])
    published(hub, tmp_path / "repository")
    asked = []

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if NAMED in record.getMessage():
                asked.extend(request.path for request in hub.requests)

    with caplog.at_level(logging.INFO, "diffusers_nested"):
        logging.getLogger("diffusers_nested.vision.towers").addHandler(handler := Log())
        with pytest.raises(AdapterLoadError, match=NAMED):
            pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
        logging.getLogger("diffusers_nested.vision.towers").removeHandler(handler)
    assert asked and not any("towers" in path for path in asked)
    assert any("towers" in request.path for request in hub.requests)


def test_inspection_says_why_no_tower_can_be_told(hub, saved_adapter, towers, tmp_path):
    layout = (set(), "../elsewhere", None, DEFAULT, None)
    folder = lay_out(tmp_path / "repository", saved_adapter, towers, layout)
    assert "not user/repo" in inspect_adapter(Source(str(folder))).image_encoder


def test_an_adapter_in_memory_knows_its_folder_elsewhere(pipeline, saved_adapter, tmp_path, monkeypatch):
    """Another folder of the same name does not take its place."""
    monkeypatch.chdir(saved_adapter.parent)
    made = NestedAdapter.from_pretrained(saved_adapter.name)
    shutil.copytree(saved_adapter, tmp_path / saved_adapter.name)
    monkeypatch.chdir(tmp_path)
    pipeline.load_nested_adapter(made)
    (loaded,) = pipeline.unet._nested_adapter_state.loaded.values()
    assert loaded.encoder_names == (str(saved_adapter / "image_encoder"),)
