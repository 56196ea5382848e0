"""An adapter whose weights are spread over processes."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_flatten

from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.environment.engines import frees_after_forward, spreads_weights
from diffusers_nested.training import read_log
from diffusers_nested.training.checkpoints import load_checkpoint
from same_states import same
from sharded_training import SETTINGS


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path):
    path = os.pathsep.join(str(Path(__file__).parents[2] / part) for part in (".", "src", "tests"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "sharded_training", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for kind in ("spread", "spread-bf16"):
        check_spread([tmp_path / kind / part for part in ("run", "alone")], half=kind.endswith("bf16"))
    folders = [tmp_path / "copies" / part for part in ("run", "alone")]
    for name in ("buckets", "shards", "phases"):
        published, expected = (NestedAdapter.from_pretrained(one / name).state_dict() for one in folders)
        torch.testing.assert_close(published, expected, rtol=1e-3, atol=1e-4, msg=name)
    assert json.loads((folders[0] / "phases" / "phases.json").read_text())[1]["resolution"] == 8


def check_close(states: Sequence[Any], half: bool) -> None:
    """Equal to rounding; with half precision, a tensor in the mean to a tenth of what Adam moves it in a step.

    Where a gradient is almost zero, rounding decides which way Adam goes, and so a single weight may be further away.
    """
    if not half:
        torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
        return
    leaves, structures = zip(*(tree_flatten(state) for state in states), strict=True)
    assert structures[0] == structures[1]
    for one, other in zip(*leaves, strict=True):
        if isinstance(one, torch.Tensor):
            assert (one - other).double().abs().mean() < SETTINGS["learning_rate"] / 10
        else:
            assert one == other


def check_spread(folders: list[Path], half: bool) -> None:
    """Weights in parts come to the same, and checkpoints and features are those of one process."""
    assert [load_checkpoint(one / "checkpoint-2")["settings"]["processes"] for one in folders] == [2, 1]
    check_close([NestedAdapter.from_pretrained(one).state_dict() for one in folders], half)
    losses = [read_log(one / "log.jsonl")[-1]["loss"] for one in folders]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3 if half else 1e-4)
    # a checkpoint is that of whole weights: the parts of all processes
    states = [load_checkpoint(one / "checkpoint-2")["learner"] for one in folders]
    for name in ("adapter", "optimizer", "average"):
        check_close([state[name] for state in states], half)
    kept = NestedAdapter.from_pretrained(folders[0] / "checkpoint-2" / "adapter").state_dict()
    assert not same(kept, states[0]["adapter"])  # but its average
    # each shard of features is encoded once, also when the run goes on
    encoded = [[json.loads(file.read_text()) for file in sorted(one.glob("encoded-*.json"))] for one in folders]
    first, second, third, captions = *(f"examples-0000{i}" for i in range(3)), "captions-00000"
    assert encoded == [[[first, third], [second, captions]], [[first, second, third, captions]]]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, True),
        ({"ACCELERATE_USE_FSDP": "false", "FSDP_VERSION": "1"}, False),
    ],
)
def test_the_launcher_says_how_weights_are_held(monkeypatch, environment, expected):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert spreads_weights() is expected
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not spreads_weights()
    assert frees_after_forward()
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    assert not frees_after_forward()


@pytest.mark.parametrize(
    ("environment", "changes", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "DeepSpeed.* Use FSDP2"),
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "version 1 of FSDP.*fsdp_version: 2"),
        ({"FSDP_VERSION": "2"}, {"mixed_precision": "fp16"}, "'fp16' does not work with FSDP.*'bf16'"),
        ({"FSDP_VERSION": "2"}, {"use_8bit_adam": True}, "use_8bit_adam does not work with FSDP"),
    ],
)
def test_what_cannot_be_spread_is_refused(train, settings, monkeypatch, environment, changes, message):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in {"ACCELERATE_USE_FSDP": "true", **environment}.items():
        monkeypatch.setenv(name, value)
    config = settings(**changes)
    with pytest.raises(NestedAdapterError, match=message):
        train(config)
    assert not config.folder.exists()
