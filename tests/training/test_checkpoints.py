import json
import os
import resource
from pathlib import Path

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.training import read_log
from diffusers_nested.training.checkpoints import (
    find_checkpoints,
    limit_checkpoints,
    load_checkpoint,
    save_checkpoint,
    tidy,
)
from diffusers_nested.training.finite import first_not_finite
from diffusers_nested.training.log import RunLog
from diffusers_nested.training.resume import find_start
from diffusers_nested.training.state_files import DamagedFileError

STATE = {"settings": {"max_train_steps": 99, "mixed_precision": "no"}, "learner": {"x": torch.ones(99)}}


def fake(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir()
        step = int("".join(filter(str.isdigit, name)) or 0)
        torch.save({**STATE, "step": step}, folder / name / "state.pt")


def names(folder: Path) -> list[str]:
    return [path.name for path in find_checkpoints(folder)]


def start(folder: Path, resume_from) -> Path | None:
    return find_start(folder, resume_from, STATE["settings"]).checkpoint


def test_latest_is_the_newest_complete_one(tmp_path: Path):
    fake(tmp_path, "checkpoint-9", "checkpoint-10", "checkpoint-11.partial", "checkpoint-x")
    (tmp_path / "checkpoint-12").mkdir()
    assert start(tmp_path, "latest") == tmp_path / "checkpoint-10"


def test_nothing_to_resume_starts_a_run(tmp_path: Path):
    assert start(tmp_path / "new", "latest") is None
    assert start(tmp_path / "new", None) is None


def test_checkpoint_by_path_or_name(tmp_path: Path):
    fake(tmp_path, "checkpoint-1", "checkpoint-2")
    assert start(tmp_path, tmp_path / "checkpoint-1") == tmp_path / "checkpoint-1"
    assert start(tmp_path, "checkpoint-1") == tmp_path / "checkpoint-1"


def test_missing_checkpoint_is_refused(tmp_path: Path):
    fake(tmp_path, "checkpoint-2")
    with pytest.raises(NestedAdapterError, match=r"checkpoint-3 is not a complete checkpoint.*checkpoint-2"):
        start(tmp_path, "checkpoint-3")


def test_new_run_does_not_mix_with_an_old_one(tmp_path: Path):
    fake(tmp_path, "checkpoint-2")
    with pytest.raises(NestedAdapterError, match="resume_from_checkpoint='latest'"):
        start(tmp_path, None)


def test_checkpoint_of_another_folder(tmp_path: Path):
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    fake(tmp_path / "other", "checkpoint-2")
    elsewhere = tmp_path / "other" / "checkpoint-2"
    assert start(tmp_path / "own", elsewhere) == elsewhere
    fake(tmp_path / "own", "checkpoint-1")
    with pytest.raises(NestedAdapterError, match="has checkpoints of its own, the last one checkpoint-1"):
        start(tmp_path / "own", elsewhere)


@pytest.mark.parametrize("resume_from", [None, "latest"])
def test_adapter_of_an_ended_run_is_not_overwritten(tmp_path: Path, resume_from):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NestedAdapterError, match="would overwrite it"):
        start(tmp_path, resume_from)
    fake(tmp_path, "checkpoint-2")
    assert start(tmp_path, "latest") == tmp_path / "checkpoint-2"


def damage(file: Path) -> dict[str, bytes]:
    data = file.read_bytes()
    other = file.with_name("other.pt")
    contents = {}
    for name, state in (
        ("not finite", {**STATE, "step": 2, "learner": {"adapter": {"x": torch.tensor([1.0, torch.nan])}}}),
        ("other keys", {"step": 2}),
        ("no dict", torch.zeros(2)),
    ):
        torch.save(state, other)
        contents[name] = other.read_bytes()
    other.unlink()
    flipped = data.replace(torch.ones(99).numpy().tobytes(), torch.ones(99).neg().numpy().tobytes())
    assert flipped != data
    cut = {"flipped": flipped, **{f"cut at {size}": data[:size] for size in (0, 1, 10, len(data) // 2, len(data) - 1)}}
    return {**cut, "zeros": bytes(len(data)), "text": b"{}", "pickle": b"\x80\x04N.", **contents}


def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    fake(tmp_path, "checkpoint-1", "checkpoint-2")
    file = tmp_path / "checkpoint-2" / "state.pt"
    for name, content in damage(file).items():
        file.write_bytes(content)
        caplog.clear()
        assert start(tmp_path, "latest") == tmp_path / "checkpoint-1", name
        assert str(file) in caplog.text
        with pytest.raises(DamagedFileError, match=r"checkpoint-2/state\.pt"):  # the one that was asked for
            start(tmp_path, "checkpoint-2")
    (tmp_path / "checkpoint-1" / "state.pt").write_bytes(b"")
    with pytest.raises(
        NestedAdapterError, match=r"No checkpoint can be resumed.*checkpoint-2/state\.pt.*checkpoint-1/state"
    ):
        start(tmp_path, "latest")


def test_steps_that_are_taken_again_leave_their_checkpoints_aside(tmp_path: Path):
    fake(tmp_path, *(f"checkpoint-{step}" for step in (2, 4, 6)))
    (tmp_path / "checkpoint-8.partial").mkdir()
    assert sorted(path.name for path in tidy(tmp_path, 2)) == ["checkpoint-4.set-aside", "checkpoint-6.set-aside"]
    assert names(tmp_path) == ["checkpoint-2"]
    assert load_checkpoint(tmp_path / "checkpoint-6.set-aside")["step"] == 6
    fake(tmp_path, "checkpoint-4")
    tidy(tmp_path, 3)  # once more
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-2",
        "checkpoint-4.set-aside",
        "checkpoint-6.set-aside",
    ]


def test_limit_keeps_the_newest(tmp_path: Path):
    fake(tmp_path, "checkpoint-8", "checkpoint-9", "checkpoint-10")
    limit_checkpoints(tmp_path, None)
    assert len(names(tmp_path)) == 3
    limit_checkpoints(tmp_path, 2)
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10"]


@pytest.fixture
def adapter() -> NestedAdapter:
    return tiny.adapter(tiny.unet())


@pytest.fixture
def file_limit():
    """Sets how many bytes a file may have: a full disk as the system reports it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("part", ["adapter", "state.pt"])
def test_full_disk_leaves_what_was_there(tmp_path: Path, adapter: NestedAdapter, file_limit, part: str):
    state = {"step": 2, "settings": {}, "learner": {"x": torch.zeros(200_000)}}
    save_checkpoint(tmp_path, 1, {**state, "step": 1}, adapter)
    largest = max(path.stat().st_size for path in (tmp_path / "checkpoint-1" / "adapter").iterdir())
    assert largest < 700_000
    file_limit(1000 if part == "adapter" else largest + 1000)
    with pytest.raises(NestedAdapterError, match=r"Cannot write .*checkpoint-2.*File too large"):
        save_checkpoint(tmp_path, 2, state, adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert load_checkpoint(tmp_path / "checkpoint-1")["step"] == 1


def test_full_disk_is_named_by_the_log(tmp_path: Path, file_limit):
    log = RunLog(tmp_path / "log.jsonl", 0)
    log.write({"step": 1})
    file_limit(20)
    with pytest.raises(NestedAdapterError, match=r"Cannot write .*log\.jsonl.*File too large"):
        log.write({"step": 2, "loss": 0.123456789})
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}]


def test_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, adapter: NestedAdapter, monkeypatch):
    synced, fsync, rename = [], os.fsync, Path.rename

    def record(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def rename_synced(self: Path, target: Path) -> Path:
        written = [self, *self.rglob("*")]
        assert {path.stat().st_ino for path in written} <= set(synced) and len(written) > 4
        synced.clear()
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "rename", rename_synced)
    path = save_checkpoint(tmp_path, 3, {**STATE, "step": 3}, adapter)
    assert synced == [tmp_path.stat().st_ino]  # the new name too
    loaded = NestedAdapter.from_pretrained(path / "adapter").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in adapter.state_dict().items())


def test_not_finite_is_found_in_any_part():
    good = {"a": [torch.ones(2), {"b": torch.tensor(3)}], "c": None, "d": 1.5}
    assert first_not_finite(good) is None and first_not_finite({}) is None
    for bad in (torch.inf, torch.nan):
        assert first_not_finite({**good, "e": [{"f": torch.tensor([0.0, bad])}]}) == "e.0.f"


def test_log_goes_on_from_the_checkpoint(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    rows = [{"step": step, "loss": 0.1} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    log = RunLog(path, 2)
    assert read_log(path) == rows[:2]
    log.write(rows[2])
    assert read_log(path) == rows
