"""Training sets in shards: what they hold, in which order they are read, and what is wrong with broken ones."""

import json
import re
import resource
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from diffusers_nested import NestedAdapterError
from diffusers_nested.data import (
    PackedPicture,
    ShardFolder,
    ShardOrder,
    TripletFolder,
    load_image,
    open_training_set,
    size_of,
)
from diffusers_nested.files import write_whole as write_module
from diffusers_nested.preparing import shards as shards_module
from diffusers_nested.preparing import write_shards
from tiny_pipeline import photo


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five examples, one of them with two subjects."""
    folder = tmp_path / "source"
    (folder / "in").mkdir(parents=True)
    lines = []
    for i in range(5):
        photo(i).save(folder / "in" / f"{i}.png")
        photo(10 + i, 24).resize((24, 20 + i)).save(folder / f"{i}.JPG")
        lines.append({"input_file_name": f"in/{i}.png", "file_name": f"{i}.JPG", "text": f"a person ünd {i}"})
    both = [{"word": "person", "file_name": "in/3.png"}, {"word": "child", "file_name": "in/0.png"}]
    lines[3] = {"subjects": both, "file_name": "3.JPG", "text": "a person and a child"}
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_shards_hold_what_the_folder_holds(source: Path, tmp_path: Path):
    done = write_shards(source, tmp_path / "out", 2)
    assert (done.examples, done.shards) == (5, 3)
    packed, plain = open_training_set(tmp_path / "out"), open_training_set(source)
    assert isinstance(packed, ShardFolder) and isinstance(plain, TripletFolder)
    assert packed.counts == [2, 2, 1] and len(packed) == 5
    for i in range(5):
        assert packed[i].text == plain[i].text and list(packed[i].photos) == list(plain[i].photos)
        pairs = [*zip(packed[i].photos.values(), plain[i].photos.values(), strict=True)]
        for one, file in [*pairs, (packed[i].target_image, plain[i].target_image)]:
            assert isinstance(one, PackedPicture) and one.read() == file.read_bytes()
            assert load_image(one).tobytes() == load_image(file).tobytes() and size_of(one) == size_of(file)


def test_archives_are_read_by_others(source: Path, tmp_path: Path):
    """webdataset groups files by their names up to the first dot."""
    write_shards(source, tmp_path / "out", 2)
    with tarfile.open(tmp_path / "out" / "00001.tar") as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}
    groups: dict[str, dict[str, bytes]] = {}
    for name, content in members.items():
        key, ending = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name).groups()
        groups.setdefault(key, {})[ending] = content
    assert list(groups) == ["00000002", "00000003"]
    assert list(groups["00000002"]) == ["json", "target.jpg", "input.png"]
    assert list(groups["00000003"]) == ["json", "target.jpg", "input1.png", "input2.png"]
    assert json.loads(groups["00000002"]["json"]) == {"text": "a person ünd 2"}
    assert json.loads(groups["00000003"]["json"]) == {"text": "a person and a child", "words": ["person", "child"]}
    assert groups["00000003"]["input2.png"] == (source / "in" / "0.png").read_bytes()


class Killed(BaseException):
    """The process ends here."""


def test_killed_anywhere_and_begun_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_shards(source, tmp_path / "whole", 2)
    out, replace = tmp_path / "out", Path.replace

    def killed(after: int) -> bool:
        left = iter(range(after))

        def or_die(path: Path, target: Path) -> Path:
            if next(left, None) is None:
                raise Killed
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", or_die)
            patch.setattr(write_module, "_remove", lambda _: None)  # nothing clears up after it
            try:
                write_shards(source, out, 2)
            except Killed:
                return True
        return False

    kills = 0
    while killed(2):
        kills += 1
        assert kills < 9
        with pytest.raises(NestedAdapterError, match=r"no index\.json, which is written last|metadata"):
            open_training_set(out)
    assert kills >= 2
    for partial in out.glob(".*.partial"):
        partial.unlink()
    assert tree(out) == tree(tmp_path / "whole")
    write_shards(source, out, 2)  # once more changes nothing
    assert tree(out) == tree(tmp_path / "whole")


@pytest.fixture
def file_limit():
    """Sets how many bytes a file may have: a full disk as the system reports it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk(source: Path, tmp_path: Path, file_limit: Callable[[int], None]):
    file_limit(6000)
    with pytest.raises(OSError, match="File too large"):
        write_shards(source, tmp_path / "out", 2)
    file_limit(resource.RLIM_INFINITY)
    assert set(tree(tmp_path / "out")) == {".shards.json"}
    write_shards(source, tmp_path / "out", 2)
    assert len(open_training_set(tmp_path / "out")) == 5


def test_other_settings_and_folders(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    write_shards(source, out, 2)
    before = tree(out)
    with pytest.raises(NestedAdapterError, match="begun with other examples per shard"):
        write_shards(source, out, 3)
    (source / "in" / "1.png").write_bytes((source / "in" / "0.png").read_bytes())
    photo(1, 30).save(source / "1.JPG")
    with pytest.raises(NestedAdapterError, match="begun with other pictures or captions"):
        write_shards(source, out, 2)
    assert tree(out) == before
    for other, message in ((source, "is the training folder itself"), (source / "in", r"holds 0\.png, but no shards")):
        with pytest.raises(NestedAdapterError, match=message):
            write_shards(source, other, 2)
    for content, name in ((b"", "2.JPG"), (b"no picture", "in/2.png")):
        kept = (source / name).read_bytes()
        (source / name).write_bytes(content)
        with pytest.raises(NestedAdapterError, match=f"{name}.* cannot be read"):
            write_shards(source, tmp_path / "new", 2)
        (source / name).write_bytes(kept)
    assert not (tmp_path / "new").exists()


def test_a_picture_that_changes_meanwhile(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards_module, "_check_definition", lambda *_: (source / "4.JPG").write_bytes(b"other"))
    with pytest.raises(NestedAdapterError, match=r"4\.JPG has changed meanwhile"):
        write_shards(source, tmp_path / "out", 2)
    assert not list((tmp_path / "out").glob("00002*"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def without_a_row(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(True)[1:]))


def moved(path: Path) -> None:
    path.write_text(path.read_text().replace('"shard": 2', '"shard": 1'))


def older(path: Path) -> None:
    path.write_text('{"format": 99, "shards": []}')


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("00001.tar", Path.unlink, r"shard .*00001\.tar is missing"),
        ("00001.tar", cut, r"00001\.tar has 19968 bytes, expected 20480"),
        ("index.json", Path.unlink, r"no index\.json, which is written last"),
        ("index.json", lambda path: path.write_text("{"), "not valid JSON"),
        ("index.json", lambda path: path.write_text('{"format": 1, "shards": [{}]}'), "does not list shards"),
        ("index.json", older, "of format 99, expected 1"),
        ("examples.jsonl", Path.unlink, r"has 0 examples, but the shards of index\.json hold 5"),
        ("examples.jsonl", without_a_row, "has 4 examples, but .* hold 5"),
        ("examples.jsonl", moved, "line 5, has an example of shard 1, but .* of shard 2"),
        (
            "examples.jsonl",
            lambda path: path.write_text('{"shard": 0}\n' * 5),
            "line 3, has an example of shard 0, but .* of shard 1",
        ),
    ],
)
def test_broken_sets_are_named(source: Path, tmp_path: Path, name: str, change, message: str):
    write_shards(source, tmp_path / "out", 2)
    change(tmp_path / "out" / name)
    with pytest.raises(NestedAdapterError, match=message):
        open_training_set(tmp_path / "out")


def test_damage_that_keeps_the_size(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    write_shards(source, out, 2)
    triplets = open_training_set(out)
    first, second = (out / name for name in ("00000.tar", "00001.tar"))
    first.write_bytes(second.read_bytes().ljust(first.stat().st_size, b"\0")[: first.stat().st_size])
    with pytest.raises(NestedAdapterError, match=r"00000000\.target\.jpg in .*00000\.tar"):
        triplets[0].target_image.read()
    with pytest.raises(NestedAdapterError, match=r"00000\.tar differs from the one that was written"):
        write_shards(source, out, 2)
    first.unlink()
    write_shards(source, out, 2)
    assert load_image(triplets[0].target_image).size == (24, 20)
    second.unlink()
    with pytest.raises(NestedAdapterError, match=r"in .*00001\.tar cannot be read"):
        triplets[2].target_image.read()


COUNTS = [4, 4, 3]


def test_one_shard_after_another():
    shard = [i for i, count in enumerate(COUNTS) for _ in range(count)]
    order = ShardOrder(COUNTS, 1, 7)
    read = [order.batch(number)[0] for number in range(33)]
    for epoch in (read[:11], read[11:22], read[22:]):
        assert sorted(epoch) == list(range(11))
        assert sum(shard[a] != shard[b] for a, b in pairwise(epoch)) == 2
    assert read[:11] != read[11:22]
    assert [ShardOrder(COUNTS, 1, 7).batch(number)[0] for number in (32, 5)] == [read[32], read[5]]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_the_same_examples(count: int):
    alone = ShardOrder(COUNTS, 2, 7)
    orders = [ShardOrder(COUNTS, 2, 7, process, count) for process in range(count)]
    shared = [order.batch(number) for number in range(6) for order in orders]
    assert shared == [alone.batch(number) for number in range(6 * count)]
