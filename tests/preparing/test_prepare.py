"""A folder of photos becomes a training set, the same whatever ended early and whoever shared the work."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.data import TripletFolder
from diffusers_nested.files.lock import held
from diffusers_nested.images import open_photo, to_pil
from diffusers_nested.preparing import photo as photo_module
from diffusers_nested.preparing.models import Segmenter
from diffusers_nested.preparing.names import share_of
from diffusers_nested.preparing.words import SubjectWord
from full_disk import room_for
from preparing.conftest import PHOTOS, Prepare, reasons, rows, tree
from tiny_vision import save_segmenter


@pytest.fixture(scope="module")
def kept() -> dict[str, bytes]:
    return {}


@pytest.fixture
def whole(pets: Prepare, tmp_path: Path, kept: dict[str, bytes]) -> dict[str, bytes]:
    """The training set of a run that nothing disturbed."""
    if not kept:
        pets(tmp_path / "undisturbed")
        kept.update(tree(tmp_path / "undisturbed"))
    return kept


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


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("writes", [0, 3])
def test_a_killed_run_goes_on(
    pets: Prepare, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
):
    left, write_whole = writes, photo_module.write_whole

    def write(path: Path, content: bytes) -> None:
        nonlocal left
        if left == 0:
            path.with_name(f".{path.name}.partial").write_bytes(content[:100])
            raise Killed
        left -= 1
        write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(photo_module, "write_whole", write)
        with pytest.raises(Killed):
            pets(tmp_path / "out")
    assert not (tmp_path / "out" / "metadata.jsonl").exists()
    pets(tmp_path / "out")
    assert tree(tmp_path / "out") == whole
    (tmp_path / "out" / "targets" / "cat.jpg").unlink()
    pets(tmp_path / "out")  # all else is done
    assert tree(tmp_path / "out") == whole


def test_a_disk_that_runs_full(pets: Prepare, whole: dict[str, bytes], tmp_path: Path):
    size = len(whole["inputs/bruno.png-1.png"])
    for room in (50, size // 2, 2 * size):
        with room_for(room), pytest.raises(OSError):
            pets(tmp_path / "out")
        for name, content in tree(tmp_path / "out").items():
            assert content == whole[name], name
    pets(tmp_path / "out")
    assert tree(tmp_path / "out") == whole


def test_the_number_of_processes_does_not_matter(pets: Prepare, whole: dict[str, bytes], tmp_path: Path):
    shares = [pets(tmp_path / "out", index, 3) for index in range(2)]
    assert any(share.waiting for share in shares)
    assert not (tmp_path / "out" / "metadata.jsonl").exists() or not shares[-1].waiting
    done = [pets(tmp_path / "out", index, 2) for index in range(2)]  # others go on
    assert (done[-1].examples, done[-1].waiting) == (3, 0)
    assert tree(tmp_path / "out") == whole


def test_shares_are_disjoint_and_whole():
    names = [f"{i}.jpg" for i in range(300)]
    shares = [share_of(names, index, 3) for index in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(70 < len(share) < 130 for share in shares)
    assert share_of(names[::-1][:150], 1, 3)[::-1] == [name for name in shares[1] if name in names[150:]]


def test_two_at_once(pets: Prepare, tmp_path: Path):
    out = tmp_path / "out"
    pets(out, 0, 2)
    with held(out / ".prepare" / "0-of-2", "preparation", "OUT"):
        with pytest.raises(NestedAdapterError, match="Another preparation works"):
            pets(out, 0, 2)
        with pytest.raises(NestedAdapterError, match="another number of processes"):
            pets(out, 0, 1)
        pets(out, 1, 2)


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


def test_changed_photos_and_captions_are_prepared_again(pets: Prepare, source: Path, tmp_path: Path):
    out = tmp_path / "out"
    pets(out)
    (source / "some more" / "bruno.txt").write_text("a dog")
    (source / "cat.jpg").unlink()
    miniature.example("miso").save(source / "bruno.png")
    miniature.example("miso").save(source / "new.png")
    (source / "new.txt").write_text("a kitten")
    pets(out)
    found = {row["file_name"]: row["text"] for row in rows(out / "metadata.jsonl")}
    assert list(found) == [
        "targets/bruno.png",
        "targets/new.png",
        "targets/some more/bruno.png",
        "targets/some more/miso é.png",
    ]
    assert (out / "targets" / "bruno.png").read_bytes() == (source / "bruno.png").read_bytes()


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
    for settings, message in (
        ({"segmenter": "user/nothing"}, "segmenter user/nothing cannot be loaded: .*nothing is downloaded"),
        ({"captioner": str(models)}, "captioner .* cannot be loaded"),
        ({"captioner": str(models / "segmenter")}, "captioner .* cannot be loaded"),
        ({"segmenter": str(tmp_path / "rooms")}, "3 classes, such as wall, floor, lamp, but none of the nouns"),
        ({"segmenter": None}, "pets need a segmenter"),
        ({"background": "grey"}, "background must be one of white, keep"),
        ({"subject_token": " "}, "blank"),
    ):
        with pytest.raises(NestedAdapterError, match=message):
            pets(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
