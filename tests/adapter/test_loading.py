"""Loading by name over HTTP: commits, permissions, and what a failed load leaves behind."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter
from diffusers_nested.vision import load_vision_tower
from hub.asked import Fault
from hub.steps import ALICE, BOB, check_untouched, generate, published

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_a_name_gives_the_adapter_of_the_folder(hub, folder, pipeline, cache):
    published(hub, folder)
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert np.array_equal(generate(pipeline), expected)
    assert not np.array_equal(expected, generate(pipeline, nested_adapter_image=None))


def test_the_second_load_downloads_nothing(hub, folder, pipeline, cache):
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert (
        len(hub.downloads()) == len(set(hub.downloads())) == 5
    )  # two models with their configs, and the preprocessing
    pipeline.unload_nested_adapter()
    hub.requests.clear()
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert not hub.downloads()
    assert {request.method for request in hub.requests} == {"HEAD"}


def test_force_download_downloads_again(hub, folder, pipeline, cache):
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    pipeline.unload_nested_adapter()
    hub.requests.clear()
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache, force_download=True)
    assert {Path(path).name for path in hub.downloads()} >= {WEIGHTS, "model.safetensors", "config.json"}


def scaled(folder: Path, factor: float) -> None:
    """Change the weights so that they give another picture."""
    state = load_file(folder / WEIGHTS)
    save_file({name: value * factor if "queries" in name else value for name, value in state.items()}, folder / WEIGHTS)


def test_revisions(hub, folder, pipeline, cache):
    api = HfApi(token=ALICE)
    first = published(hub, folder)
    api.create_tag("alice/nested", tag="v1.0")
    api.create_branch("alice/nested", branch="old/stays")
    scaled(folder, -3.0)
    published(hub, folder)
    pictures = {}
    for revision in (None, "main", "v1.0", "old/stays", first):
        pipeline.load_nested_adapter("alice/nested", revision=revision, cache_dir=cache)
        pictures[revision] = generate(pipeline)
        pipeline.unload_nested_adapter()
    assert np.array_equal(pictures[None], pictures["main"])
    for revision in ("v1.0", "old/stays"):
        assert np.array_equal(pictures[revision], pictures[first])
    assert not np.array_equal(pictures["main"], pictures[first])


def test_all_files_are_of_one_commit(hub, folder, pipeline, cache):
    """A commit in between does not mix files: all are requested at the commit of the first."""
    sha = published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    asked = {
        re.search("/resolve/([^/]+)/", path)[1] for path in hub.downloads() if not path.endswith("main/config.json")
    }
    assert asked == {sha}


def test_a_private_repository_needs_its_owners_token(hub, folder, pipeline, cache):
    published(hub, folder, private=True)
    processors = pipeline.unet.attn_processors
    for token in (None, False, BOB):
        with pytest.raises(AdapterLoadError, match="token") as caught:
            pipeline.load_nested_adapter("alice/nested", token=token, cache_dir=cache)
        assert isinstance(caught.value.__cause__, RepositoryNotFoundError)
        check_untouched(pipeline, processors)
    pipeline.load_nested_adapter("alice/nested", token=ALICE, cache_dir=cache)
    assert list(pipeline.nested_adapters) == ["person"]


def test_a_gated_repository_needs_a_granted_request(hub, folder, pipeline, cache):
    published(hub, folder, readers={"bob"})
    processors = pipeline.unet.attn_processors
    with pytest.raises(AdapterLoadError, match=f"{hub.url}/alice/nested") as caught:
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert isinstance(caught.value.__cause__, GatedRepoError)
    check_untouched(pipeline, processors)
    pipeline.load_nested_adapter("alice/nested", token=BOB, cache_dir=cache)
    assert list(pipeline.nested_adapters) == ["person"]


@pytest.mark.parametrize("cut", [WEIGHTS, "image_encoder/model.safetensors"])
def test_a_download_that_was_cut_goes_on(hub, folder, pipeline, cache, cut, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # so that part of a small file arrives
    published(hub, folder)
    hub.faults.append(Fault("GET", cut))
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    parts = [request for request in hub.requests if request.method == "GET" and request.path.endswith(cut)]
    assert [request.status for request in parts] == [200, 206]
    size = (folder / cut).stat().st_size
    assert size <= sum(request.sent for request in parts) < size + 1000  # at most one chunk is sent twice
    assert generate(pipeline).shape == (16, 16, 3)


class TestOffline:
    def test_what_was_downloaded_is_enough(self, hub, folder, pipeline, cache):
        published(hub, folder)
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
        expected = generate(pipeline)
        pipeline.unload_nested_adapter()
        hub.requests.clear()
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache, local_files_only=True)
        assert not hub.requests
        assert np.array_equal(generate(pipeline), expected)

    def test_nothing_downloaded(self, hub, folder, pipeline, cache):
        published(hub, folder)
        processors = pipeline.unet.attn_processors
        with pytest.raises(AdapterLoadError, match="local_files_only") as caught:
            pipeline.load_nested_adapter("alice/nested", cache_dir=cache, local_files_only=True)
        assert isinstance(caught.value.__cause__, LocalEntryNotFoundError)
        check_untouched(pipeline, processors)

    def test_the_image_encoder_was_not_downloaded(self, hub, folder, pipeline, cache):
        published(hub, folder)
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache, image_encoder_folder=None)
        pipeline.unload_nested_adapter()
        with pytest.raises(AdapterLoadError, match=r"image_encoder/config\.json"):
            pipeline.load_nested_adapter("alice/nested", cache_dir=cache, local_files_only=True)

    def test_that_a_file_is_not_there_is_known_from_before(self, hub, folder, pipeline, cache):
        """The image encoder is in another repository; the cache also remembers that the adapter has none."""
        move_encoder(folder, hub)
        published(hub, folder)
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
        pipeline.unload_nested_adapter()
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache, local_files_only=True)
        assert list(pipeline.nested_adapters) == ["person"]


def test_variant(hub, folder, pipeline, cache):
    NestedAdapter.from_pretrained(folder).half().save_pretrained(folder, variant="fp16")
    (folder / WEIGHTS).unlink()
    published(hub, folder)
    processors = pipeline.unet.attn_processors
    with pytest.raises(AdapterLoadError, match="variant"):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    check_untouched(pipeline, processors)
    pipeline.load_nested_adapter("alice/nested", variant="fp16", torch_dtype=torch.float16, cache_dir=cache)
    stored = load_file(folder / "diffusion_pytorch_model.fp16.safetensors")
    for name, value in pipeline.nested_adapters["person"].state_dict().items():
        assert torch.equal(value, stored[name])


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards(hub, folder, pipeline, cache, variant):
    whole = load_file(folder / WEIGHTS)
    made = NestedAdapter.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    made.save_pretrained(folder, max_shard_size="20KB", variant=variant)
    shards = sorted(path.name for path in folder.glob("*-of-*.safetensors"))
    assert len(shards) > 1
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", variant=variant, cache_dir=cache)
    for name, value in pipeline.nested_adapters["person"].state_dict().items():
        assert torch.equal(value, whole[name])
    pipeline.unload_nested_adapter()
    hub.repos["alice/nested"].edit(**{shards[0]: None})
    with pytest.raises(AdapterLoadError, match=shards[0]):
        pipeline.load_nested_adapter("alice/nested", variant=variant, cache_dir=cache.with_name("other"))


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "sub/shard.safetensors", 3])
def test_shards_cannot_be_elsewhere(hub, folder, pipeline, cache, name):
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
    published(hub, folder)
    with pytest.raises(AdapterLoadError):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)


@pytest.mark.parametrize("shared_encoder", [False, True])
def test_subfolder(hub, folder, pipeline, cache, tmp_path, shared_encoder):
    """The image encoder is beside the adapter, or at the top for all the adapters of a repository."""
    collection = tmp_path / "collection"
    shutil.copytree(folder, collection / "people" / "v1")
    if shared_encoder:
        for name in ("image_encoder", "feature_extractor"):
            shutil.move(collection / "people" / "v1" / name, collection / name)
    published(hub, collection)
    pipeline.load_nested_adapter("alice/nested", subfolder="people/v1", cache_dir=cache)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    pipeline.load_nested_adapter(folder)
    assert np.array_equal(generate(pipeline), expected)


def test_weight_name(hub, folder, pipeline, cache):
    (folder / WEIGHTS).rename(folder / "mine.safetensors")
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", weight_name="mine.safetensors", cache_dir=cache)
    pipeline.unload_nested_adapter()
    with pytest.raises(AdapterLoadError, match=r"theirs\.safetensors"):
        pipeline.load_nested_adapter("alice/nested", weight_name="theirs.safetensors", cache_dir=cache)


def move_encoder(folder: Path, hub) -> None:
    """Put the adapter's image encoder into a repository of its own, which the adapter names."""
    towers = folder.parent / f"{folder.name}-towers" / "models"
    for name in ("image_encoder", "feature_extractor"):
        shutil.move(folder / name, towers / name)
    published(hub, towers.parent, "alice/towers")
    config = json.loads((folder / "config.json").read_text())
    config["image_encoder"] = "alice/towers/models/image_encoder"
    (folder / "config.json").write_text(json.dumps(config))


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


# What cannot be loaded: the change to the repository, keywords, what the message names, and the cause.


def no_adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    UNet2DConditionModel(
        block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    ).save_pretrained(folder)


def change_config(**changes):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def for_sd15(folder: Path) -> None:
    """The layers and widths of Stable Diffusion 1.5: 16 layers, prompt embeddings of 768."""
    blocks = {f"down_blocks.{i}": (320, 640, 1280)[i] for i in range(3)} | {
        f"up_blocks.{i}": (1280, 640, 320)[i - 1] for i in range(1, 4)
    }
    layers = {
        f"{block}.attentions.{j}.transformer_blocks.0.attn2": width
        for block, width in blocks.items()
        for j in range(2 if block.startswith("down") else 3)
    }
    layers["mid_block.attentions.0.transformer_blocks.0.attn2"] = 1280
    assert len(layers) == 16
    small = {"qformer_hidden_size": 8, "qformer_num_heads": 2, "qformer_num_layers": 1, "qformer_intermediate_size": 8}
    NestedAdapter(layers, 768, tiny.FEATURES, num_queries=2, **small).half().save_pretrained(folder)


def nothing(folder: Path) -> None:
    pass


REFUSED = {
    "no such repository": (nothing, {"pretrained": "alice/nobody"}, "alice/nobody", RepositoryNotFoundError),
    "no such revision": (nothing, {"revision": "v9"}, "v9", RevisionNotFoundError),
    "no such subfolder": (nothing, {"subfolder": "pets"}, r"pets/config\.json", None),
    "a bad token": (nothing, {"token": "hf_wrong"}, "401", HfHubHTTPError),
    "neither folder nor name": (nothing, {"pretrained": "/no/such/folder"}, "/no/such/folder", None),
    "an empty repository": (shutil.rmtree, {}, r"config\.json", None),
    "not an adapter": (no_adapter, {}, "UNet2DConditionModel", None),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), {}, WEIGHTS, None),
    "pickled weights only": (lambda folder: (folder / WEIGHTS).rename(folder / "weights.bin"), {}, "safetensors", None),
    "a future format": (change_config(format_version=99), {}, "99.*Upgrade", None),
    "another family": (change_config(base_family="sd1.5"), {}, r"sd1\.5", None),
    "Stable Diffusion 1.5": (for_sd15, {}, "16 layers", None),
    "half a file of weights": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5000]),
        {},
        "alice--nested|alice/nested",
        None,
    ),
    "both offline and again": (
        nothing,
        {"local_files_only": True, "force_download": True},
        "force_download",
        ValueError,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(hub, folder, pipeline, cache, name):
    change, keywords, named, cause = REFUSED[name]
    change(folder)
    folder.mkdir(exist_ok=True)
    published(hub, folder)
    processors, before = pipeline.unet.attn_processors, generate(pipeline, nested_adapter_image=None)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        pipeline.load_nested_adapter(**{"pretrained": "alice/nested", "cache_dir": cache, **keywords})
    assert cause is None or isinstance(caught.value.__cause__, cause)
    check_untouched(pipeline, processors)
    assert np.array_equal(generate(pipeline, nested_adapter_image=None), before)


@pytest.mark.parametrize("name", ["not an adapter", "a future format"])
def test_weights_that_cannot_be_used_are_not_downloaded(hub, folder, pipeline, cache, name):
    REFUSED[name][0](folder)
    published(hub, folder)
    with pytest.raises(AdapterLoadError):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert [Path(path).name for path in hub.downloads()] == ["config.json"]


def test_one_bad_adapter_of_a_list_keeps_the_good_ones_out(hub, folder, pipeline, cache):
    published(hub, folder)
    processors = pipeline.unet.attn_processors
    with pytest.raises(AdapterLoadError, match="nobody"):
        pipeline.load_nested_adapter(["alice/nested", "alice/nobody"], cache_dir=cache)
    check_untouched(pipeline, processors)
