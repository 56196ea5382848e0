"""Whether a file is whole, as far as its head and its end show it."""

from pathlib import Path

import pytest
from PIL import Image

from diffusers_nested import SubjectError
from diffusers_nested.images import check_whole, whole
from tiny_pipeline import photo

KINDS = ("jpg", "png", "webp", "bmp", "gif", "tiff")


def saved(folder: Path, kind: str) -> Path:
    path = folder / f"photo.{kind}"
    photo(1).resize((48, 40)).save(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_passes_and_one_that_is_cut_off_does_not(tmp_path: Path, kind: str):
    file = saved(tmp_path, kind)
    check_whole(file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(SubjectError, match=r"cannot be read"):
        check_whole(file)


@pytest.mark.parametrize("kind", ("jpg", "png", "webp"))
def test_whole_files_are_not_decoded(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    decoded = []
    monkeypatch.setattr(whole, "open_photo", decoded.append)
    file = saved(tmp_path, kind)
    check_whole(file)
    assert not decoded
    with file.open("ab") as opened:
        opened.write(b"notes of a camera")  # pictures with them can be read all the same
    check_whole(file)
    assert decoded == ([] if kind == "webp" else [file])
    monkeypatch.undo()
    check_whole(file)


@pytest.mark.parametrize("content", [b"", b"\xff", b"<html>not found</html>"])
def test_what_is_no_picture(tmp_path: Path, content: bytes):
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    with pytest.raises(SubjectError, match=r"photo\.jpg' cannot be read"):
        check_whole(file)
    with pytest.raises(SubjectError, match="cannot be read"):
        check_whole(tmp_path / "gone.png")


def test_a_kind_that_photos_do_not_have(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.ppm")
    with pytest.raises(SubjectError, match="not one of JPEG"):
        check_whole(tmp_path / "photo.ppm")
