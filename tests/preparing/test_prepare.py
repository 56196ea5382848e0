"""A folder of photos becomes a training set: triplets, crops, captions, and photos that cannot be used."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import NestedAdapterError
from diffusers_nested.data import TripletFolder
from diffusers_nested.images import open_photo, to_pil
from diffusers_nested.preparing import photo as photo_module
from diffusers_nested.preparing.models import Segmenter
from diffusers_nested.preparing.words import SubjectWord
from preparing.conftest import PHOTOS, Prepare, reasons, rows
from tiny_vision import save_segmenter


def test_photos_become_triplets(pets: Prepare, source: Path, tmp_path: Path):
    done = pets(tmp_path / "out")
    assert (done.photos, done.examples, done.waiting) == (4, 3, 0)
    assert done.rejects == {"no noun for the subject in the caption": 1}
    triplets = TripletFolder(tmp_path / "out")
    assert [triplets[i].text for i in range(3)] == ["A pet by the sea", "a pet on a blanket", "portrait of a pet"]
    for i, name in enumerate(("bruno.png", "cat.jpg", "some more/miso é.png")):
        assert triplets[i].target_image.read_bytes() == (source / name).read_bytes()
        assert open_photo(triplets[i].input_image).size == (512, 512)
    assert reasons(tmp_path / "out") == {"some more/bruno.png": "no noun for the subject in the caption"}


def test_the_sheet_shows_the_triplets(whole: dict[str, bytes]):
    with Image.open(io.BytesIO(whole["contact-sheet.png"])) as image:
        sheet = np.asarray(image.convert("RGB"), dtype=float)
    first = Image.open(io.BytesIO(whole["inputs/bruno.png-1.png"])).resize((128, 128))
    shown = sheet[8 : 8 + 128, 8 : 8 + 128]
    assert np.abs(shown - np.asarray(first, dtype=float)).mean() < 5
    assert sheet.shape[1] == 3 * (2 * 128 + 3 * 8)


@pytest.mark.parametrize("background", ["white", "keep"])
def test_the_crop_is_around_the_mask(pets: Prepare, models: Path, tmp_path: Path, background: str):
    pets(tmp_path / "out", background=background)
    with Image.open(PHOTOS / "cat.jpg") as cat:
        (mask,) = Segmenter(str(models / "segmenter"), SubjectWord("pet", ["dog"]), "cpu").find(cat)
        inside, pixels = np.asarray(mask) > 0, np.asarray(cat, dtype=float)
    rows_, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    height, width = rows_[-1] + 1 - rows_[0], columns[-1] + 1 - columns[0]
    side = round(1.2 * max(height, width))
    top, left = (rows_[0] + rows_[-1] + 1 - side) // 2, (columns[0] + columns[-1] + 1 - side) // 2
    if background == "white":
        expected = np.full((side, side, 3), 255.0)
        seen = expected[-top : -top + 150, -left : -left + 226]
        seen[inside] = pixels[inside]
    else:
        beyond = [(-top, top + side - 150), (-left, left + side - 226), (0, 0)]
        expected = np.pad(pixels, beyond, mode="symmetric")
    crop = Image.open(tmp_path / "out" / "inputs" / "cat.jpg-1.png").resize((side, side), Image.Resampling.BOX)
    assert np.abs(np.asarray(crop, dtype=float) - expected).mean() < 3


def test_limits_and_several_subjects(pets: Prepare, source: Path, models: Path, tmp_path: Path):
    (source / "miso.png").write_bytes((source / "some more" / "miso é.png").read_bytes())
    (source / "miso.txt").write_text("a cat")
    with pytest.raises(NestedAdapterError, match=r"None of the 5 photos.*subject too small \(4\)"):
        pets(tmp_path / "small", min_size=3000)
    with pytest.raises(NestedAdapterError, match=r"blurred"):
        pets(tmp_path / "blurred", min_sharpness=1e6)
    every = tmp_path / "every"
    save_segmenter(every, ("cat", "dog"))
    pets(tmp_path / "several", segmenter=str(every))
    found = rows(tmp_path / "several" / "rejects.jsonl")
    assert "several subjects, none clearly the largest" in {row["reason"] for row in found}


def test_a_captioner_writes_what_is_missing(pets: Prepare, source: Path, models: Path, tmp_path: Path):
    (source / "cat.txt").unlink()
    with pytest.raises(NestedAdapterError, match="names no photo"):
        (tmp_path / "none.csv").write_text("file_name,text\n")
        pets(tmp_path / "out", captions=tmp_path / "none.csv")
    pets(tmp_path / "out", captioner=str(models / "captioner"))
    texts = {row["file_name"]: row["text"] for row in rows(tmp_path / "out" / "metadata.jsonl")}
    assert texts["targets/cat.jpg"] == "a pet sleeping in its basket"
    assert texts["targets/bruno.png"] == "A pet by the sea"
    pets(tmp_path / "without")
    assert reasons(tmp_path / "without")["cat.jpg"] == "no caption"


def save_photos_of_all_kinds(source: Path) -> None:
    with Image.open(PHOTOS / "cat.jpg") as image:
        cat = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    cat.rotate(90, expand=True).save(source / "turned.jpg", exif=exif)
    cat.convert("L").save(source / "grey.png")
    cat.convert("CMYK").save(source / "cmyk.jpg")
    cat.convert("RGBA").save(source / "alpha.png")
    cat.convert("P").save(source / "palette.GIF", save_all=True, append_images=[cat.convert("P").rotate(180)])
    cat.save(source / "cat.png")  # the stem of another photo


def test_photos_of_all_kinds(pets: Prepare, source: Path, tmp_path: Path):
    save_photos_of_all_kinds(source)
    names = ("turned.jpg", "grey.png", "cmyk.jpg", "alpha.png", "palette.GIF", "cat.png", "cat.jpg")
    table = "\n".join(f"{name},a cat" for name in names)
    (tmp_path / "captions.csv").write_text(f"file_name,text\n{table}\n")
    done = pets(tmp_path / "out", captions=tmp_path / "captions.csv", background="keep")
    assert done.examples == len(names)
    crops = {name: to_pil(open_photo(tmp_path / "out" / "inputs" / f"{name}-1.png")) for name in names}
    like = np.asarray(crops["cat.jpg"].convert("L"), dtype=float)
    for name, crop in crops.items():  # a crop turned by 90 degrees differs by 36; fewer colours, by 8
        assert np.abs(np.asarray(crop.convert("L"), dtype=float) - like).mean() < 12, name
    assert {row["reason"] for row in rows(tmp_path / "out" / "rejects.jsonl")} == {"no caption"}


def test_what_cannot_be_used_is_said(pets: Prepare, source: Path, tmp_path: Path):
    (source / "empty.jpg").touch()
    (source / "text.png").write_text("no picture")
    (source / "half.jpg").write_bytes((source / "cat.jpg").read_bytes()[:4000])
    (source / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    Image.fromarray(np.zeros((200, 200), np.uint16)).save(source / "deep.png")
    (source / f"{'long' * 60}.jpg").write_bytes((source / "cat.jpg").read_bytes())
    (source / ".hidden.jpg").touch()
    (source / "notes.pdf").touch()
    (source / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    pets(tmp_path / "out")
    found = reasons(tmp_path / "out")
    del found["some more/bruno.png"]
    assert found == {
        "empty.jpg": "empty file",
        "text.png": "unreadable",
        "half.jpg": "unreadable",
        "phone.HEIC": "unreadable",
        "deep.png": "unreadable",
        f"{'long' * 60}.jpg": "unusable name",
        "gone.jpg": "unreadable",
    }


def test_names_that_are_no_text(pets: Prepare, source: Path, tmp_path: Path):
    name = str(source).encode() + b"/\xff.jpg"
    try:
        shutil.copy(PHOTOS / "cat.jpg", name)
    except OSError:
        pytest.skip("this file system has no such names")
    pets(tmp_path / "out")
    assert reasons(tmp_path / "out")["\\xff.jpg"] == "unusable name"


def test_a_photo_that_vanishes_meanwhile(pets: Prepare, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_whole = photo_module.write_whole

    def write(path: Path, content: bytes) -> None:
        (source / "cat.jpg").unlink(missing_ok=True)
        write_whole(path, content)

    monkeypatch.setattr(photo_module, "write_whole", write)
    assert pets(tmp_path / "out").examples == 2
    assert reasons(tmp_path / "out")["cat.jpg"] == "unreadable"
