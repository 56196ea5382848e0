"""Names in an index and links must not lead out of a folder, except for the links in the Hub's cache."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffusers_nested import AdapterLoadError, NestedAdapter
from diffusers_nested.files import file_in, read_index, read_json
from tiny import tiny_adapter

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


@pytest.fixture(scope="module")
def adapter() -> NestedAdapter:
    return tiny_adapter()


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "sub\\x.safetensors",
        "C:x.safetensors",
        "..",
        ".",
        "",
        ".hidden.safetensors",
        "x.bin",
        "x.safetensors\0",
        "x.safetensors\n",
        "a" * 300 + ".safetensors",
        3,
        None,
        ["x.safetensors"],
    ],
)
def test_index_with_a_name_that_is_not_plain(tmp_path: Path, name: Any):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": name}}))
    with pytest.raises(AdapterLoadError, match="plain names"):
        read_index(tmp_path / INDEX)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', "[" * 99_999])
def test_index_that_is_none(tmp_path: Path, content: str):
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(AdapterLoadError, match=INDEX):
        read_index(tmp_path / INDEX)


def test_index_of_too_many_files(tmp_path: Path):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {f"{i}": f"{i}.safetensors" for i in range(1001)}}))
    with pytest.raises(AdapterLoadError, match="1001"):
        read_index(tmp_path / INDEX)


def test_files_of_a_bounded_size(tmp_path: Path):
    (tmp_path / "a.json").write_text("[" + " " * 99 + "]")
    assert read_json(tmp_path / "a.json", 101) == []
    with pytest.raises(AdapterLoadError, match="101"):
        read_json(tmp_path / "a.json", 100)


def save_sharded(adapter: NestedAdapter, folder: Path) -> dict[str, str]:
    adapter.save_pretrained(folder, max_shard_size="4KB")
    return json.loads((folder / INDEX).read_text())["weight_map"]


def test_shard_that_is_a_link_out_of_the_folder(adapter: NestedAdapter, tmp_path: Path):
    folder = tmp_path / "adapter"
    shard = folder / next(iter(save_sharded(adapter, folder).values()))
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(AdapterLoadError, match=r"link to .*elsewhere"):
        NestedAdapter.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_file_that_is_a_link_out_of_the_folder(adapter: NestedAdapter, tmp_path: Path, name: str):
    adapter.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / name).rename(tmp_path / name)
    (tmp_path / "adapter" / name).symlink_to(f"../{name}")
    with pytest.raises(AdapterLoadError, match="link"):
        NestedAdapter.from_pretrained(tmp_path / "adapter")


def test_links_within_the_folder_and_to_the_folder(adapter: NestedAdapter, tmp_path: Path):
    adapter.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / WEIGHTS).rename(tmp_path / "adapter" / "kept.safetensors")
    (tmp_path / "adapter" / WEIGHTS).symlink_to("kept.safetensors")
    (tmp_path / "other").symlink_to(tmp_path / "adapter")
    NestedAdapter.from_pretrained(tmp_path / "adapter")
    NestedAdapter.from_pretrained(tmp_path / "other")


def as_in_the_cache(folder: Path, cache: Path, shared: bool) -> Path:
    """A folder as in huggingface_hub's cache: links to blobs, which may be links to a store for the whole cache."""
    snapshot = cache / "models--user--adapter" / "snapshots" / ("0" * 40)
    blobs = cache / "models--user--adapter" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, path in enumerate(sorted(folder.iterdir())):
        blob = cache / "blobs" / "ab" / f"ab{i}" if shared else blobs / f"{i}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        if shared:
            (blobs / f"{i}").symlink_to(f"../../blobs/ab/ab{i}")
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    return snapshot


@pytest.mark.parametrize("shared", [False, True])
def test_snapshot_in_the_cache(adapter: NestedAdapter, tmp_path: Path, shared: bool):
    save_sharded(adapter, tmp_path / "adapter")
    snapshot = as_in_the_cache(tmp_path / "adapter", tmp_path / "cache", shared)
    loaded = NestedAdapter.from_pretrained(snapshot)
    assert all(bool((loaded.state_dict()[name] == x).all()) for name, x in adapter.state_dict().items())
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(AdapterLoadError, match="link"):
        NestedAdapter.from_pretrained(snapshot)


def test_store_that_is_a_link_itself_is_none(tmp_path: Path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "blobs").symlink_to("/etc")
    (snapshot / "config.json").symlink_to("../../blobs/passwd")
    with pytest.raises(AdapterLoadError, match="link"):
        file_in(snapshot, "config.json")


def test_index_that_disagrees_with_the_files(adapter: NestedAdapter, tmp_path: Path):
    entries = save_sharded(adapter, tmp_path)
    first, last = sorted(set(entries.values()))[:: len(set(entries.values())) - 1]
    moved = {name: last if shard == first else shard for name, shard in entries.items()}
    for wrong in (moved, {**entries, "extra": first}, dict(list(entries.items())[1:])):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(AdapterLoadError):
            NestedAdapter.from_pretrained(tmp_path)
