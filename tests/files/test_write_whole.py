"""Atomic writes of files and folders."""

import os
from pathlib import Path

import pytest

from diffusers_nested.files.write_whole import write_whole


def write_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "a.txt").write_text("a")
    (path / "b.txt").write_text("b")


def fail_midway(path: Path) -> None:
    write_folder(path)
    raise RuntimeError("stopped")


@pytest.mark.parametrize("content", ["café", "café".encode(), lambda path: path.write_text("café", encoding="utf-8")])
def test_a_file_takes_the_place_of_an_earlier_one(tmp_path: Path, content):
    (tmp_path / "a.txt").write_text("earlier")
    write_whole(tmp_path / "a.txt", content)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "café"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder(tmp_path: Path):
    write_whole(tmp_path / "made", write_folder)
    assert (tmp_path / "made" / "inner" / "a.txt").read_text() == "a"
    assert os.listdir(tmp_path) == ["made"]


def test_a_folder_that_is_not_empty_stays(tmp_path: Path):
    write_whole(tmp_path / "made", write_folder)
    with pytest.raises(OSError, match="made"):
        write_whole(tmp_path / "made", lambda path: path.mkdir())
    assert (tmp_path / "made" / "b.txt").read_text() == "b"
    assert os.listdir(tmp_path) == ["made"]


def test_what_fails_leaves_nothing(tmp_path: Path):
    (tmp_path / "a.txt").write_text("earlier")
    for name in ("a.txt", "new"):
        with pytest.raises(RuntimeError, match="stopped"):
            write_whole(tmp_path / name, fail_midway)
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "earlier"


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path):
    write_folder(tmp_path / ".made.partial")
    write_whole(tmp_path / "made", lambda path: path.mkdir())
    assert os.listdir(tmp_path) == ["made"] and not os.listdir(tmp_path / "made")
