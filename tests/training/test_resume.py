"""What a run goes on with: changed settings, earlier and damaged checkpoints, and a disk at any moment."""

import json
import logging
import os
import shutil

import numpy as np
import pytest

from accelerate_state import new_process
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.training import TrainingConfig, read_log
from diffusers_nested.training.checkpoints import find_checkpoints, load_checkpoint
from same_states import contents, same, untimed


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


class Killed(BaseException):
    """As if the process were gone: nothing clears up after it."""


@pytest.mark.slow
def test_cut_off_between_any_two_changes_on_the_disk(train, settings, monkeypatch):
    more = {"max_train_steps": 3, "checkpointing_steps": 1, "checkpoints_total_limit": 1, "logging_steps": 1}
    whole, cut = settings("whole", **more), settings("cut", resume_from_checkpoint="latest", **more)
    expected = train(whole)

    def killed(after: int) -> bool:
        left = iter(range(after))

        def or_die(do):
            def act(*args, **options):
                if next(left, None) is None:
                    raise Killed
                return do(*args, **options)

            return act

        with monkeypatch.context() as patch:
            for name in ("fsync", "rename", "replace", "rmdir"):
                patch.setattr(os, name, or_die(getattr(os, name)))
            try:
                train(cut)
            except Killed:
                return True
        return False

    kills = next(count for count in range(1, 100) if not killed(2 * count))
    assert kills > 5
    assert same(NestedAdapter.from_pretrained(cut.folder).state_dict(), expected.state_dict())
    assert same(*(load_checkpoint(config.folder / "checkpoint-3") for config in (whole, cut)))
    assert untimed(whole.folder / "log.jsonl") == untimed(cut.folder / "log.jsonl")
    assert {path.name for path in cut.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
