"""Blind comparisons: which pairs, and what the page shows and keeps."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from diffusers_nested import NestedAdapterError
from diffusers_nested.evaluation.study import choose_pairs, write_page
from study_pictures import maker


def test_pairs_are_of_one_shot_and_balanced(results):
    pairs = choose_pairs([results], ["ours@2", "theirs", "plain"], 8)
    assert Counter(str(other) for pair in pairs for other in set(pair.sides) - {pair.first}) == {
        "theirs@0.5": 4,
        "plain@0": 4,
    }
    assert {str(pair.first) for pair in pairs} == {"ours@2"}
    for pair in pairs:
        assert [side.contestant for side in pair.sides] == [maker(picture) for picture in pair.pictures]
        assert pair.photos == (results / "photos" / pair.subject / "word-1-photo-1.png",)
    assert choose_pairs([results], ["ours@2", "theirs", "plain"], 8) == pairs
    assert choose_pairs([results], ["ours@2", "theirs", "plain"], 8, seed=1) != pairs


def test_sides_and_order_are_drawn_by_lot(results):
    pairs = choose_pairs([results], ["ours@1.0", "theirs@0.50"], 6)
    assert len(pairs) == 6 and len({(pair.subject, pair.prompt) for pair in pairs}) == 6
    assert Counter(pair.sides[0].contestant for pair in pairs) == {"ours": 3, "theirs": 3}
    assert [(pair.subject, pair.prompt) for pair in pairs] != sorted((pair.subject, pair.prompt) for pair in pairs)


@pytest.mark.parametrize(
    ("named", "match"),
    [
        (["ours", "theirs"], "several scales"),
        (["ours@3", "theirs"], "not among"),
        (["nobody", "theirs"], "theirs@0.5"),
        (["ours@1"], "two different"),
        (["ours@1", "ours@1"], "two different"),
        ([], "two different"),
    ],
)
def test_contestants_that_are_not_clear(results, named, match):
    with pytest.raises(NestedAdapterError, match=match):
        choose_pairs([results], named, 4)


def test_folders_without_pictures(results, tmp_path):
    with pytest.raises(NestedAdapterError, match="no results"):
        choose_pairs([tmp_path], ["ours@1", "theirs"], 4)
    for picture in (results / "pictures").iterdir():
        picture.unlink()
    with pytest.raises(NestedAdapterError, match="save_pictures"):
        choose_pairs([results], ["ours@1", "theirs"], 4)


def change(results: Path, **fields) -> None:
    """Every row names something else."""
    rows = [{**json.loads(line), **fields} for line in (results / "results.jsonl").read_text().split("\n")[:-1]]
    (results / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "name",
    [
        "{}/secret.png",
        "../secret.png",
        "pictures/../../secret.png",
        "pictures/link.png",
        "far/secret.png",
        "..\\secret.png",
        "C:secret.png",
        "a\0b",
    ],
)
def test_pictures_outside_of_the_folder_are_not_read(results, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    for path in (tmp_path / "secret.png", outside / "secret.png"):
        Image.new("RGB", (8, 8)).save(path)
    (results / "pictures" / "link.png").symlink_to(tmp_path / "secret.png")
    (results / "far").symlink_to(outside)
    change(results, picture=name.format(tmp_path))
    with pytest.raises(NestedAdapterError, match=r"not in it|outside of the folder"):
        choose_pairs([results], ["ours@1", "theirs"], 4)


@pytest.mark.parametrize("subject", ["../../outside", "{}/outside", "linked", "..", "photo"])
def test_photos_outside_of_the_folder_are_not_read(results, tmp_path, subject):
    (tmp_path / "outside").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "outside" / "secret.png")
    (results / "photos" / "linked").symlink_to(tmp_path / "outside")
    (results / "photos" / "photo").mkdir()
    (results / "photos" / "photo" / "1.png").symlink_to(tmp_path / "outside" / "secret.png")
    change(results, subject=subject.format(tmp_path))
    with pytest.raises(NestedAdapterError, match=r"cannot be the name|outside of the folder"):
        choose_pairs([results], ["ours@1", "theirs"], 4)


def test_links_within_the_folder_are_followed(results):
    for picture in list((results / "pictures").iterdir()):
        (results / "kept").mkdir(exist_ok=True)
        moved = picture.rename(results / "kept" / picture.name)
        picture.symlink_to(moved)
    assert len(choose_pairs([results], ["ours@1", "theirs"], 4)) == 4


def test_a_picture_that_is_cut_off(results, tmp_path):
    pairs = choose_pairs([results], ["ours@1", "theirs"], 4)
    pairs[0].pictures[0].write_bytes(pairs[0].pictures[0].read_bytes()[:50])
    with pytest.raises(NestedAdapterError, match=pairs[0].pictures[0].name):
        write_page(pairs, tmp_path / "study.html")
    assert not (tmp_path / "study.html").exists() and not (tmp_path / "study.key.json").exists()


def test_rows_that_are_none(results):
    change(results, scale="much")
    with pytest.raises(NestedAdapterError, match=r"results\.jsonl, line 1, .*scale"):
        choose_pairs([results], ["ours@1", "theirs"], 4)


def test_a_seed_below_zero(results):
    with pytest.raises(NestedAdapterError, match="-1"):
        choose_pairs([results], ["ours@1", "theirs"], 4, seed=-1)


def test_the_key_of_another_study_is_kept(results, tmp_path):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    before = key.read_bytes(), (tmp_path / "study.html").read_bytes()
    assert write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html") == key
    with pytest.raises(NestedAdapterError, match=r"study\.key\.json.*another --output"):
        write_page(choose_pairs([results], ["ours@1", "theirs"], 4), tmp_path / "study.html")
    assert (key.read_bytes(), (tmp_path / "study.html").read_bytes()) == before


def test_the_page_names_nobody(results, tmp_path):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    page = (tmp_path / "study.html").read_text()
    assert "theirs" not in page and "ours@" not in page and str(results) not in page
    assert "http:" not in page and "https:" not in page  # it needs nothing from elsewhere
    pairs = json.loads(key.read_text())["pairs"]
    assert [{pair["left"], pair["right"]} for pair in pairs] == [{"ours@2", "theirs@0.5"}] * 4


def definition(folder: Path, **changes) -> None:
    """Write down what a folder's pictures depend on."""
    fields = {"call": {"num_inference_steps": 4}, "subjects": {"ada-0": {"photos": "a"}}, "contestants": {}}
    (folder / "settings.json").write_text(json.dumps({**fields, **changes}))


@pytest.fixture
def two(results, tmp_path):
    """Two folders of comparisons with the same settings, and "ours" in the second one only."""
    other = shutil.copytree(results, tmp_path / "other")
    for folder, names in ((results, ("theirs", "plain")), (other, ("ours", "plain"))):
        lines = (folder / "results.jsonl").read_text().splitlines()
        kept = [line for line in lines if json.loads(line)["contestant"] in names]
        (folder / "results.jsonl").write_text("".join(f"{line}\n" for line in kept))
        definition(folder)
    return results, other


def test_contestants_of_two_folders(two):
    pairs = choose_pairs(two, ["ours@1", "theirs", "plain"], 6)
    assert Counter(maker(picture) for pair in pairs for picture in pair.pictures) == {
        "ours": 6,
        "theirs": 3,
        "plain": 3,
    }


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"call": {"num_inference_steps": 9}}, "call.num_inference_steps is 4 and 9"),
        ({"call": {}}, "call.num_inference_steps is 4 and None"),
        ({"subjects": {"ada-0": {"photos": "b"}}}, "the subject 'ada-0' has other photos"),
    ],
)
def test_folders_that_differ_by_more_than_contestants(two, changes, match):
    definition(two[1], **changes)
    with pytest.raises(NestedAdapterError, match=match):
        choose_pairs(two, ["ours@1", "theirs"], 4)
    (two[1] / "settings.json").unlink()
    with pytest.raises(NestedAdapterError, match=r"settings\.json"):
        choose_pairs(two, ["ours@1", "theirs"], 4)


def test_one_contestant_with_other_pictures_in_two_folders(two):
    for picture in (two[1] / "pictures").glob("plain-*"):
        Image.new("RGB", (32, 32), (1, 2, 3)).save(picture)
    assert choose_pairs(two, ["ours@1", "theirs"], 4)
    with pytest.raises(NestedAdapterError, match=r"plain@0 has different pictures of 'ada-0' in .* and .*other"):
        choose_pairs(two, ["ours@1", "plain"], 4)


def test_as_many_pairs_as_others_at_least(results):
    assert len(choose_pairs([results], ["ours@1", "theirs", "plain"], 2)) == 2
    with pytest.raises(NestedAdapterError, match="2 in all, got 1"):
        choose_pairs([results], ["ours@1", "theirs", "plain"], 1)
