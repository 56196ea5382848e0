"""What a run goes on with: changed settings, earlier and damaged checkpoints, and a disk at any moment."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import tiny_pipeline as tiny
from accelerate_state import new_process
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.errors import AdapterLoadError
from diffusers_nested.training import TrainingConfig, read_log
from diffusers_nested.training.checkpoints import find_checkpoints, load_checkpoint
from diffusers_nested.training.loop import Run
from diffusers_nested.training.validation import Validation
from same_states import contents, same, untimed


class Killed(BaseException):
    """As if the process were gone: nothing clears up after it."""


@contextmanager
def killed_in(kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, the process is as if it were gone as soon as a method is called."""

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kind, name, die)
        yield


def test_more_steps_and_a_lower_rate_take_effect(run, train, caplog):
    caplog.set_level(logging.INFO, "diffusers_nested")
    config = run(copy=True, max_train_steps=8, learning_rate=2e-3, logging_steps=1, checkpointing_steps=4)
    train(config)
    assert "max_train_steps 4 -> 8; learning_rate 0.01 -> 0.002; checkpointing_steps 2 -> 4" in caplog.text
    rows = read_log(config.folder / "log.jsonl")
    assert [row["step"] for row in rows] == [3, 4, 5, 6, 7, 8]
    progress = (np.arange(4, 8) - 1) / 7  # of a cosine over 8 steps, one of which warms up
    assert [row["lr"] for row in rows[2:]] == pytest.approx(list(1e-3 * (1 + np.cos(np.pi * progress))))
    saved = load_checkpoint(config.folder / "checkpoint-8")
    assert saved["learner"]["optimizer"]["param_groups"][0]["initial_lr"] == 2e-3
    assert json.loads((config.folder / "training_config.json").read_text())["learning_rate"] == 2e-3


def test_fewer_steps_than_were_taken(run, train):
    with pytest.raises(NestedAdapterError, match=r"max_train_steps is 3, but .*checkpoint-4 has taken 4 steps"):
        train(run(max_train_steps=3))


def test_ended_run_changes_nothing(run, train):
    config = run(copy=True)
    before = load_checkpoint(config.folder / "checkpoint-4")["learner"]["adapter"]
    assert same(dict(train(config).state_dict()), before)
    assert [path.name for path in find_checkpoints(config.folder)] == ["checkpoint-2", "checkpoint-4"]


def test_run_that_goes_on_holds_no_adapter_until_it_ends(run, train, monkeypatch, caplog):
    """What is published meanwhile cannot be the earlier adapter by mistake; it is kept in a folder of its own."""
    caplog.set_level(logging.INFO, "diffusers_nested")
    config = run(copy=True, max_train_steps=6)
    before = contents(config.folder)
    (config.folder / "README.md").write_text("a card")
    with killed_in(Run, "_step", monkeypatch):
        train(config)
    aside = config.folder / "after-4"
    assert f"is in {aside} now" in caplog.text
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == {
        name: before[str(config.folder / name)] for name in ("config.json", "diffusion_pytorch_model.safetensors")
    }
    with pytest.raises(AdapterLoadError, match=r"no config\.json\. The training in it has not ended.*after-4"):
        NestedAdapter.from_pretrained(config.folder)
    new_process()
    ended = train(config)
    assert same(NestedAdapter.from_pretrained(config.folder).state_dict(), ended.state_dict())
    assert [path.name for path in config.folder.glob("after-*")] == ["after-4"]
    assert (config.folder / "README.md").exists()


def test_adapters_set_aside_have_names_of_their_own(run, train):
    config = run(copy=True, max_train_steps=6)
    (config.folder / "after-4").mkdir()
    train(config)
    assert NestedAdapter.from_pretrained(config.folder / "after-4-2")
    assert not list((config.folder / "after-4").iterdir())


def test_pictures_of_a_run_killed_while_they_were_drawn(pipeline, run, train, monkeypatch):
    set_timesteps = pipeline.scheduler.set_timesteps
    monkeypatch.setattr(pipeline.scheduler, "set_timesteps", lambda _, **more: set_timesteps(2, **more))
    config = run(copy=True, max_train_steps=6, validation_steps=2, validation_prompts=["a person"])
    folder, images = config.folder / "validation", [tiny.photo(1)]
    with killed_in(Validation, "draw", monkeypatch):
        train(config, validation_images=images)
    assert not folder.exists()
    new_process()
    train(config, validation_images=images)
    assert [path.name for path in sorted(folder.iterdir())] == ["step-4.png", "step-6.png"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    new_process()
    train(config, validation_images=images)  # nothing is left to do
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_from_an_earlier_checkpoint(run, train, caplog):
    config = run(copy=True, resume_from_checkpoint="checkpoint-2")
    expected = load_checkpoint(config.folder / "checkpoint-4")
    train(config)
    assert "checkpoint-4.set-aside" in caplog.text
    assert same(load_checkpoint(config.folder / "checkpoint-4"), expected)
    shutil.rmtree(config.folder / "checkpoint-4")  # only one that is aside is left of it
    train(TrainingConfig(**{**vars(config), "resume_from_checkpoint": "latest"}))
    assert same(load_checkpoint(config.folder / "checkpoint-4"), expected)


def test_damaged_checkpoint_is_made_again(run, train, caplog):
    config = run(copy=True)
    file = config.folder / "checkpoint-4" / "state.pt"
    expected = load_checkpoint(file.parent)
    file.write_bytes(file.read_bytes()[:-100])
    train(config)
    assert f"{file} is cut off" in caplog.text
    assert same(load_checkpoint(file.parent), expected)


def test_damaged_log_is_named_before_anything_is_changed(run, train):
    config = run(copy=True, resume_from_checkpoint="checkpoint-2")
    log = config.folder / "log.jsonl"
    log.write_text("torn\n" + log.read_text())
    before = contents(config.folder)
    with pytest.raises(NestedAdapterError, match=r"log\.jsonl, line 1"):
        train(config)
    assert contents(config.folder) == before


def test_model_that_was_cast_must_be_loaded_again(run, train):
    config = run(copy=True, mixed_precision="bf16", max_train_steps=6)
    train(config)
    new_process()
    back = run(max_train_steps=6)
    with pytest.raises(NestedAdapterError, match=r"unet was .*must be loaded again"):
        train(back)


def test_two_runs_in_one_folder(train, settings, triplets):
    config = settings()
    errors = []

    class Second(list):
        """A training set whose first picture starts a second run."""

        def __getitem__(self, index):
            if not errors and (config.folder / ".lock").exists():
                errors.append(None)
                with pytest.raises(NestedAdapterError, match="Another run works in") as error:
                    train(settings())
                errors.append(error.value)
            return super().__getitem__(index)

    train(config, Second(triplets))
    assert len(errors) == 2 and len(read_log(config.folder / "log.jsonl")) == 2


def killed_after(changes: int, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether something is cut off after so many changes on the disk; otherwise it has ended."""
    left = iter(range(changes))

    def or_die(change):
        def act(*args, **options):
            if next(left, None) is None:
                raise Killed
            return change(*args, **options)

        return act

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace", "rmdir", "unlink"):
            patch.setattr(os, name, or_die(getattr(os, name)))
        try:
            do()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("changes", range(9))
def test_adapter_of_a_run_that_goes_on_is_never_lost(run, train, monkeypatch, changes):
    config = run(copy=True, max_train_steps=6)
    expected = NestedAdapter.from_pretrained(config.folder).state_dict()
    assert killed_after(changes, lambda: train(config), monkeypatch)
    kept = [path for path in (config.folder, config.folder / "after-4") if (path / "config.json").exists()]
    assert kept and all(same(NestedAdapter.from_pretrained(path).state_dict(), expected) for path in kept)


@pytest.mark.slow
def test_cut_off_between_any_two_changes_on_the_disk(train, settings, monkeypatch):
    more = {"max_train_steps": 3, "checkpointing_steps": 1, "checkpoints_total_limit": 1, "logging_steps": 1}
    whole, cut = settings("whole", **more), settings("cut", resume_from_checkpoint="latest", **more)
    expected = train(whole)

    kills = next(count for count in range(1, 100) if not killed_after(2 * count, lambda: train(cut), monkeypatch))
    assert kills > 5
    assert same(NestedAdapter.from_pretrained(cut.folder).state_dict(), expected.state_dict())
    assert same(*(load_checkpoint(config.folder / "checkpoint-3") for config in (whole, cut)))
    assert untimed(whole.folder / "log.jsonl") == untimed(cut.folder / "log.jsonl")
    assert {path.name for path in cut.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
