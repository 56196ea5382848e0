"""A training set is the same whatever ended early, whoever shared the work, and whatever changed meanwhile."""

import json
from pathlib import Path

import pytest

from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.files.lock import held
from diffusers_nested.preparing import photo as photo_module
from diffusers_nested.preparing.names import share_of
from full_disk import room_for
from preparing.conftest import Prepare, rows, tree


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
    # what was made of the photo that is gone, and of one that lost its caption, is gone, too
    (source / "new.txt").unlink()
    pets(out)
    listed = {row[column] for row in rows(out / "metadata.jsonl") for column in ("input_file_name", "file_name")}
    there = {file.relative_to(out).as_posix() for part in ("inputs", "targets") for file in (out / part).rglob("*.*")}
    assert there == listed and not any("cat" in name or "new" in name for name in there)


def test_files_elsewhere_are_left_alone_whatever_the_notes_say(pets: Prepare, tmp_path: Path):
    out, mine = tmp_path / "out", tmp_path / "mine.png"
    mine.touch()
    pets(out)
    (notes,) = out.glob(".prepare/*/rows.jsonl")
    example = {"input_file_name": "../mine.png", "file_name": str(mine)}
    with notes.open("a") as file:
        file.write(json.dumps({"photo": "x", "from": [], "examples": [example], "rejects": []}) + "\n")
    pets(out)
    assert mine.exists()
