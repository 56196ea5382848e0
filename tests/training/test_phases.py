"""Several phases in one training, and in one file."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.errors import PromptTokenError
from diffusers_nested.training import TrainingConfig, read_log, read_phases, train_in_phases
from diffusers_nested.training.checkpoints import find_checkpoints
from diffusers_nested.training.loop import Run
from same_states import same, untimed


@pytest.fixture
def phases(settings) -> Callable[..., list[TrainingConfig]]:
    """Two phases: of 16 pixels in two batches a step, with an average, and of 8 pixels."""

    def make(output_dir: str = "run", first=None, second=None, **common) -> list[TrainingConfig]:
        common = {"resume_from_checkpoint": "latest", "logging_steps": 2, "max_train_steps": 2, **common}
        one = {"use_ema": True, "ema_decay": 0.5, "gradient_accumulation_steps": 2, **(first or {})}
        two = {"resolution": 8, "learning_rate": 2e-3, "train_batch_size": 3, **(second or {})}
        return [settings(output_dir, **{**common, **own}) for own in (one, two)]

    return make


@pytest.fixture
def train(pipeline, image_encoder, triplets) -> Callable[..., NestedAdapter]:
    def run(configs: Sequence[TrainingConfig], mechanism="nested", **more) -> NestedAdapter:
        fresh = tiny.adapter(pipeline.unet, mechanism=mechanism)
        return train_in_phases(pipeline, image_encoder, fresh, triplets, configs, **more)

    return run


def killed_at(run, phase: int, step: int, monkeypatch) -> None:
    taken = Run._step

    def step_or_die(self: Run, number: int, samples) -> torch.Tensor:
        if (self._phase["phase"], number) == (phase, step):
            raise KeyboardInterrupt
        return taken(self, number, samples)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_step", step_or_die)
        run()


@pytest.mark.slow
def test_killed_in_and_between_phases_is_uninterrupted(train, phases, monkeypatch, caplog):
    caplog.set_level("INFO", "diffusers_nested")
    expected = train(phases("whole", checkpointing_steps=1))
    cut = phases("cut", checkpointing_steps=1)
    for phase, step in ((2, 0), (2, 1)):
        killed_at(lambda: train(cut), phase, step, monkeypatch)
    adapter = train(cut)
    assert same(adapter.state_dict(), expected.state_dict())
    whole, folder = (one[0].folder for one in (phases("whole"), cut))
    assert same(NestedAdapter.from_pretrained(folder).state_dict(), expected.state_dict())
    for number in (1, 2):
        rows = untimed(folder / f"phase-{number}" / "log.jsonl")
        assert rows == untimed(whole / f"phase-{number}" / "log.jsonl")
        assert [(row["phase"], row["step"]) for row in rows] == [(number, 2)]
    assert "Phase 2 of 2: 8 pixels, 3 examples per process, 2 steps, learning rate 0.002" in caplog.text
    before = {path: path.stat().st_mtime_ns for path in (folder / "phase-1").rglob("*")}
    assert same(train(cut).state_dict(), expected.state_dict())  # nothing is left to do
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "phase-1").rglob("*")}


@pytest.mark.slow
def test_after_the_last_phase(train, phases):
    """What is finished must be what it was; the last phase may be longer, and others may follow."""
    short = {"max_train_steps": 1, "lr_warmup_steps": 0, "checkpointing_steps": 1}

    def done(**more) -> list[TrainingConfig]:
        return phases(**{**short, **more})

    train(done())
    cases = [
        (done(first={"learning_rate": 1e-3}), "Phase 1 .* finished, .*learning_rate was 0.01, now 0.001"),
        (done(first={"max_train_steps": 9}), "Phase 1 .* finished, .*max_train_steps was 1, now 9"),
        (done(second={"max_train_steps": 2, "seed": 3}), "Phase 2 .*max_train_steps was 1, now 2; seed was 0, now 3"),
        (done()[::-1], "Phase 1 .*resolution was 16, now 8"),
        (done()[:1], "has begun with phase 2, but only 1"),
        (done(resume_from_checkpoint=None), "resume_from_checkpoint='latest'"),
    ]
    for configs, message in cases:
        with pytest.raises(NestedAdapterError, match=message):
            train(configs)
    with pytest.raises(NestedAdapterError, match=r"adapter\.mechanism was 'nested', now 'simple'"):
        train(done(), mechanism="simple")

    more = done(second={"max_train_steps": 2}, logging_steps=2, gradient_checkpointing=True)
    train(more)
    folder = more[0].folder
    assert [path.name for path in find_checkpoints(folder / "phase-2")] == ["checkpoint-1", "checkpoint-2"]
    for path in find_checkpoints(folder / "phase-2"):  # killed between its end and the record of it
        shutil.rmtree(path)
    record = json.loads((folder / "phases.json").read_text())
    (folder / "phases.json").write_text(json.dumps(record[:1]))
    train([*more, replace(more[0], resolution=32)])
    assert [row["phase"] for row in read_log(folder / "phase-3" / "log.jsonl")] == [3]
    assert [one["max_train_steps"] for one in json.loads((folder / "phases.json").read_text())] == [1, 2, 1]
    published, last = (NestedAdapter.from_pretrained(one).state_dict() for one in (folder, folder / "phase-3"))
    assert same(published, last)


def test_a_damaged_record_is_named(train, phases):
    configs = phases()
    configs[0].folder.mkdir()
    (configs[0].folder / "phases.json").write_text("torn")
    with pytest.raises(NestedAdapterError, match=r"Cannot read .*phases\.json"):
        train(configs)


def test_all_phases_are_checked_before_the_first(train, phases, tmp_path):
    cases = [
        ([], "no phases"),
        (phases(second={"resolution": 15}), "Phase 2: resolution 15 must be a multiple"),
        (phases(second={"mixed_precision": "bf16"}), "mixed_precision must be the same .* 'no', phase 2 'bf16'"),
        (phases(cache_folder="one"), "Phase 2: cache_folder one is that of a phase with resolution 16"),
        (phases(resume_from_checkpoint="checkpoint-1"), "must be 'latest' or None, got 'checkpoint-1'"),
        (phases(second={"use_8bit_adam": True}), "Phase 2: use_8bit_adam needs a GPU"),
    ]
    for configs, message in cases:
        with pytest.raises(NestedAdapterError, match=message):
            train(configs)
    with pytest.raises(PromptTokenError, match=r"Phase 2: .*a pet"):
        train(
            phases(second={"validation_prompts": ["a pet"]}, validation_prompts=["a person"]),
            validation_images=[tiny.photo()],
        )
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_run_without_phases_is_refused(train, phases, pipeline):
    configs = phases()
    tiny.adapter(pipeline.unet).save_pretrained(configs[0].folder)
    with pytest.raises(NestedAdapterError, match="without phases"):
        train(configs)


TWO = """
[[phase]]
resolution = 512
train_batch_size = 8
max_train_steps = 20

[[phase]]
resolution = 1024
learning_rate = 1
lr_warmup_steps = 3
gradient_checkpointing = true
"""


def test_a_file_of_phases(tmp_path: Path):
    file = tmp_path / "phases.toml"
    file.write_text(TWO)
    first, second = read_phases(file, output_dir="run", learning_rate=1e-5, lr_warmup_steps=1, train_batch_size=2)
    common = {"output_dir": "run", "learning_rate": 1e-5, "lr_warmup_steps": 1}
    assert first == TrainingConfig(**common, resolution=512, train_batch_size=8, max_train_steps=20)
    assert (second.resolution, second.train_batch_size, second.learning_rate) == (1024, 2, 1)
    assert (second.lr_warmup_steps, second.gradient_checkpointing, second.max_train_steps) == (3, True, 10_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no list of phases. .*\\[\\[phase\\]\\]"),
        ("phase = []", "has no list of phases"),
        ("[phase]\nresolution = 512", "has no list of phases"),
        ("phase = [512, 1024]", "has no list of phases"),
        ("seed = 3\n" + TWO, "has seed outside of a phase"),
        ("[[phases]]\nresolution = 512", "has phases outside of a phase"),
        (TWO + "resolutoin = 3", "phase 2: unknown settings: resolutoin \\(resolution\\?\\)"),
        (TWO + "mechanism = 'simple'", "phase 2: unknown settings: mechanism.* are the same in all phases"),
        (TWO + "mixed_precision = 'bf16'", "phase 2: mixed_precision must be the same"),
        (TWO + "seed = '3'", "phase 2: seed must be a whole number from 0 to 4294967295, got '3'"),
        (TWO + "use_ema = 1", "phase 2: use_ema must be true or false, got 1"),
        (TWO + "validation_prompts = ['a', 1]", "phase 2: validation_prompts must be a list of prompts"),
        (TWO + "cache_folder = 1", "phase 2: cache_folder must be the path"),
        (TWO + "max_train_steps = 3", "phase 2: lr_warmup_steps 3 must be less"),
        ("[[phase", "Cannot read the phases .*phases.toml"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, message: str):
    file = tmp_path / "phases.toml"
    file.write_text(text)
    with pytest.raises(NestedAdapterError, match=f"phases.toml.*{message}|{message}"):
        read_phases(file, output_dir="run")
    with pytest.raises(NestedAdapterError, match="nowhere"):
        read_phases(tmp_path / "nowhere.toml", output_dir="run")
