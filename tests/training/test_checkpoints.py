import json
from pathlib import Path

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.training import read_log
from diffusers_nested.training.checkpoints import (
    check_same_run,
    choose_checkpoint,
    find_checkpoints,
    limit_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from diffusers_nested.training.log import RunLog


def fake(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir()
        (folder / name / "state.pt").touch()


def names(folder: Path) -> list[str]:
    return [path.name for path in find_checkpoints(folder)]


def test_latest_is_the_newest_complete_one(tmp_path: Path):
    fake(tmp_path, "checkpoint-9", "checkpoint-10", "checkpoint-11.partial", "checkpoint-x")
    (tmp_path / "checkpoint-12").mkdir()
    assert choose_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-10"


def test_nothing_to_resume_starts_a_run(tmp_path: Path):
    assert choose_checkpoint(tmp_path / "new", "latest") is None
    assert choose_checkpoint(tmp_path / "new", None) is None


def test_checkpoint_by_path_or_name(tmp_path: Path):
    fake(tmp_path, "checkpoint-1", "checkpoint-2")
    assert choose_checkpoint(tmp_path, tmp_path / "checkpoint-1") == tmp_path / "checkpoint-1"
    assert choose_checkpoint(tmp_path, "checkpoint-1") == tmp_path / "checkpoint-1"


def test_missing_checkpoint_is_refused(tmp_path: Path):
    fake(tmp_path, "checkpoint-2")
    with pytest.raises(NestedAdapterError, match=r"checkpoint-3 is not a complete checkpoint.*checkpoint-2"):
        choose_checkpoint(tmp_path, "checkpoint-3")


def test_new_run_does_not_mix_with_an_old_one(tmp_path: Path):
    fake(tmp_path, "checkpoint-2")
    with pytest.raises(NestedAdapterError, match="resume_from_checkpoint='latest'"):
        choose_checkpoint(tmp_path, None)


def test_limit_keeps_the_newest(tmp_path: Path):
    fake(tmp_path, "checkpoint-8", "checkpoint-9", "checkpoint-10")
    limit_checkpoints(tmp_path, None)
    assert len(names(tmp_path)) == 3
    limit_checkpoints(tmp_path, 2)
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10"]


def test_checkpoint_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    adapter = tiny.adapter(tiny.unet())

    def fail(*args: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(torch, "save", fail)
        save_checkpoint(tmp_path, 3, {"step": 3}, adapter)
    assert names(tmp_path) == []
    for step in (3, 3):  # also over one that is there
        path = save_checkpoint(tmp_path, step, {"step": step}, adapter)
    assert load_checkpoint(path) == {"step": 3}
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-3"]
    loaded = NestedAdapter.from_pretrained(path / "adapter").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in adapter.state_dict().items())


def test_other_settings_are_named():
    check_same_run(Path("c"), {"seed": 1}, {"seed": 1})
    with pytest.raises(NestedAdapterError, match="seed was 1, now 2"):
        check_same_run(Path("c"), {"seed": 1}, {"seed": 2})


def test_log_goes_on_from_the_checkpoint(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    rows = [{"step": step, "loss": 0.1} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    log = RunLog(path, 2)
    assert read_log(path) == rows[:2]
    log.write(rows[2])
    assert read_log(path) == rows
