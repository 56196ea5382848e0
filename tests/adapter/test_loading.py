"""Loading by name over HTTP: commits, permissions, and what is downloaded."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from diffusers_nested import AdapterLoadError, NestedAdapter
from hub.asked import Fault
from hub.steps import ALICE, BOB, WEIGHTS, check_untouched, generate, move_encoder, published


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
