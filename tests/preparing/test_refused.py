"""Folders, models, settings and numbers of processes with which nothing can be prepared."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import SegformerConfig, SegformerForImageClassification

from diffusers_nested import NestedAdapterError, miniature
from preparing.conftest import PHOTOS, Prepare, tree
from tiny_vision import save_segmenter


@pytest.mark.parametrize(("rank", "count"), [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "0")])
def test_odd_numbers_of_processes(pets: Prepare, tmp_path: Path, rank: str, count: str):
    with pytest.raises(NestedAdapterError, match="RANK is"):
        pets(tmp_path / "out", rank, count)
    assert not (tmp_path / "out").exists()


def test_changed_settings_are_refused(pets: Prepare, models: Path, tmp_path: Path):
    out = tmp_path / "out"
    pets(out)
    before = tree(out)
    other = save_segmenter(tmp_path / "other", seed=1)
    (tmp_path / "nouns.txt").write_text("dog\n")
    changes = {
        "min_size": (64, "min_size was 128 and is now 64"),
        "background": ("keep", "background was 'white' and is now 'keep'"),
        "subject_token": ("animal", "subject_token was 'pet' and is now 'animal'"),
        "segmenter": (str(other), "segmenter was"),
        "captioner": (str(models / "captioner"), "captioner was None"),
        "nouns": (tmp_path / "nouns.txt", "nouns was"),
    }
    for name, (value, message) in changes.items():
        with pytest.raises(NestedAdapterError, match=message):
            pets(out, **{name: value})
    shutil.copytree(models / "segmenter", tmp_path / "moved")
    pets(out, segmenter=str(tmp_path / "moved"))  # the same model elsewhere
    assert tree(out) == before


def test_folders_within_each_other(pets: Prepare, source: Path, whole: dict[str, bytes], tmp_path: Path):
    pets(source / "set")
    pets(source / "another set")
    assert tree(source / "set") == whole == tree(source / "another set")
    for wrong in (source, tmp_path):
        with pytest.raises(NestedAdapterError, match=r"SOURCE .* lies in OUT"):
            pets(wrong)


def test_folders_that_do_not_do(pets: Prepare, source: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(PHOTOS / "cat.jpg", bare)
    for folder, message in {
        tmp_path / "empty": "holds no photo",
        tmp_path / "gone": "is not there",
        source / "cat.jpg": "is a file",
        bare: "No photo of .* has a caption beside it",
    }.items():
        with pytest.raises(NestedAdapterError, match=message):
            pets(tmp_path / "out", source=folder)
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "metadata.jsonl").write_text(json.dumps({}))
    (tmp_path / "file").touch()
    for output, message in {tmp_path / "full": "already holds metadata.jsonl", tmp_path / "file": "is a file"}.items():
        with pytest.raises(NestedAdapterError, match=message):
            pets(output)


def test_models_that_do_not_do(pets: Prepare, models: Path, tmp_path: Path):
    save_segmenter(tmp_path / "rooms", ("wall", "floor", "lamp"))
    names = save_segmenter(tmp_path / "names")  # with the weights of a model that names a picture, not its parts
    namer = SegformerForImageClassification(SegformerConfig.from_pretrained(names))
    namer.save_pretrained(names)
    for settings, message in (
        ({"segmenter": "user/nothing"}, "segmenter user/nothing cannot be loaded: .*nothing is downloaded"),
        ({"captioner": str(models)}, "captioner .* cannot be loaded"),
        ({"captioner": str(models / "segmenter")}, "captioner .* cannot be loaded"),
        ({"segmenter": str(tmp_path / "rooms")}, "3 classes, such as wall, floor, lamp, but none of the nouns"),
        ({"segmenter": str(names)}, "is a SegformerForImageClassification, expected one that finds the masks"),
        ({"segmenter": str(miniature.path("people") / "image_encoder")}, "cannot be loaded"),
        ({"segmenter": None}, "pets need a segmenter"),
        ({"background": "grey"}, "background must be one of white, keep"),
        ({"subject_token": " "}, "blank"),
    ):
        with pytest.raises(NestedAdapterError, match=message):
            pets(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
