"""A training set that is encoded once."""

import errno
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested import NestedAdapterError
from diffusers_nested.data import Triplet
from diffusers_nested.training import encoded_shards, read_log
from diffusers_nested.training.frozen import FrozenModels
from same_states import same

NAMES = ["captions-00000.pt", "examples-00000.pt", "examples-00001.pt", "examples-00002.pt"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    """Of two examples, so that five make three, and of two captions."""
    monkeypatch.setattr(encoded_shards, "SHARD", 2)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many targets were encoded, in each call from now on."""
    counts: list[int] = []
    latents = FrozenModels.latents

    def counted(self, pixels):
        counts.append(len(pixels))
        return latents(self, pixels)

    monkeypatch.setattr(FrozenModels, "latents", counted)
    return counts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "features"


def test_cached_features_change_little(train, settings):
    logs = []
    for name, cache in (("cached", True), ("read", False)):
        config = settings(name, max_train_steps=2, logging_steps=1, cache_features=cache)
        train(config)
        logs.append([row["loss"] for row in read_log(config.folder / "log.jsonl")])
    assert logs[0] == pytest.approx(logs[1], rel=1e-2)


def test_runs_share_what_is_encoded(train, settings, folder, seen):
    made = []
    for name, cache in (("memory", None), ("first", folder), ("second", folder)):
        made.append(train(settings(name, max_train_steps=2, cache_folder=cache)).state_dict())
        seen.append(0)
    assert same(made[0], made[1]) and same(made[1], made[2])
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    held = 2  # examples of the paired loss, which come first and are not cached
    assert seen == [held, 2, 2, 1, 0, held, 2, 2, 1, 0, held, 2, 0]  # the second run compares one shard


def test_what_is_missing_is_encoded_again(train, settings, folder, seen):
    whole = train(settings("whole", max_train_steps=2, cache_folder=folder)).state_dict()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / NAMES[2]).unlink()
    (folder / f".{NAMES[2]}.0.partial").write_bytes(b"killed here")
    seen.clear()
    again = train(settings("again", max_train_steps=2, cache_folder=folder)).state_dict()
    assert same(whole, again)
    assert seen == [2, 2, 2]  # held, compared, encoded
    for name in (NAMES[0], NAMES[1], NAMES[3]):
        assert (folder / name).read_bytes() == before[name]


def test_another_set_is_refused_before_anything_is_written(train, settings, triplets, folder):
    train(settings("first", max_train_steps=2, cache_folder=folder))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    captions = [Triplet(each.input_image, "a watercolor of a person", each.target_image) for each in triplets]
    swapped = [Triplet(each.target_image, each.text, each.input_image) for each in triplets]
    others = [(captions, {}), (swapped, {}), (triplets[1:], {}), (triplets, {"resolution": 8})]
    for dataset, changes in others:
        config = settings("third", cache_folder=folder, **changes)
        with pytest.raises(NestedAdapterError, match=r"00000\.pt is of another training set, .* another cache_folder"):
            train(config, dataset)
        assert not config.folder.exists()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"text"])
def test_a_damaged_shard_is_named(train, settings, folder, content):
    folder.mkdir(parents=True)
    (folder / NAMES[1]).write_bytes(content)
    config = settings(cache_folder=folder)
    with pytest.raises(NestedAdapterError, match=r"cache_folder, .*examples-00000\.pt .* Delete it"):
        train(config)
    assert not config.folder.exists()


def test_a_shard_with_a_damaged_byte_is_not_trained_on(train, settings, folder):
    train(settings("first", max_train_steps=2, cache_folder=folder))
    file = folder / NAMES[2]
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = max(archive.infolist(), key=lambda one: one.file_size)
    content[entry.header_offset + entry.file_size // 2 + 200] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(NestedAdapterError, match=r"examples-00001\.pt is damaged: the checksum .* Delete it"):
        train(settings("second", cache_folder=folder))


@pytest.mark.parametrize("state", [{"digest": torch.zeros(2)}, {"digest": "text"}, {}, [1], torch.zeros(3)])
def test_a_file_that_is_no_shard_is_refused(train, settings, folder, state):
    folder.mkdir(parents=True)
    torch.save(state, folder / NAMES[2])
    with pytest.raises(NestedAdapterError, match=r"examples-00001\.pt is of another training set"):
        train(settings(cache_folder=folder))


def test_a_full_disk_leaves_whole_shards_only(train, settings, folder, monkeypatch):
    save, written = encoded_shards.save_state, []

    def full(state, file):
        written.append(file)
        save(state, file)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(encoded_shards, "save_state", full)
    config = settings(cache_folder=folder, max_train_steps=2)
    with pytest.raises(NestedAdapterError, match=r"Cannot write into cache_folder .*No space left"):
        train(config)
    assert len(list(folder.iterdir())) == 2


def test_a_shard_that_is_interrupted_leaves_nothing(train, settings, folder, monkeypatch):
    save = encoded_shards.save_state

    def interrupted(state, file):
        save(state, file)
        raise KeyboardInterrupt

    monkeypatch.setattr(encoded_shards, "save_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(settings(cache_folder=folder, max_train_steps=2))
    assert not list(folder.iterdir())


def test_a_file_in_the_place_of_the_folder(train, settings, tmp_path):
    (tmp_path / "features.pt").write_bytes(b"of an earlier version")
    with pytest.raises(NestedAdapterError, match=r"Cannot write into cache_folder .*features\.pt"):
        train(settings(cache_folder=tmp_path / "features.pt"))


def test_another_photo_under_the_same_name_is_noticed(tmp_path):
    def digests(size: int) -> list[list[int]]:
        path = tmp_path / "photo.png"
        Image.new("RGB", (size, size)).save(path)
        triplet = Triplet(path, "a person", np.zeros((8, 8, 3), np.uint8))
        raw = SimpleNamespace(triplets=[triplet], sizes=[(8, 8)])
        whole = encoded_shards.EncodedSet(raw, None)
        return [whole.digest(name).tolist() for name in whole.names]

    first, again, other = digests(8), digests(8), digests(64)
    assert first == again
    assert first[0] != other[0] and first[1] == other[1]  # of the examples, and of the captions
