"""`diffusers-nested train`, from its flags to an adapter that has learned."""

import json
import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch

from diffusers_nested import NestedAdapter, NestedAdapterError, miniature
from diffusers_nested.cli import main
from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.training import TrainingConfig, read_log
from diffusers_nested.training.checkpoints import load_checkpoint
from diffusers_nested.training.resume import find_start

WORDS = "a photo of a person on the beach"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for name in ("mira", "otto"):
        miniature.example(name).save(folder / f"{name}.png")
        lines.append(json.dumps({"input_file_name": f"{name}.png", "file_name": f"{name}.png", "text": WORDS}))
    both = [{"word": "person", "file_name": "mira.png"}, {"word": "dog", "file_name": "otto.png"}]
    lines[1] = json.dumps({"subjects": both, "file_name": "otto.png", "text": "a photo of a dog and a person"})
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def arguments(data: Path, *flags: str) -> list[str]:
    return [
        "train",
        *("--pretrained_model_name_or_path", str(miniature.path())),
        *("--image_encoder_name_or_path", str(miniature.path("people") / "image_encoder")),
        *("--train_data_dir", str(data), "--output_dir", str(data.parent / "run")),
        *("--resolution", "32", "--train_batch_size", "2", "--max_train_steps", "1", *flags),
    ]


def train(data: Path, *flags: str) -> int:
    return main(arguments(data, *flags))


def test_starts_from_an_earlier_adapter(data: Path):
    people = miniature.path("people")
    flags = ("--pretrained_adapter_name_or_path", str(people), "--num_queries", "32", "--alpha", "2")
    assert train(data, *flags, "--learning_rate", "1e-9") == 0
    before, after = NestedAdapter.from_pretrained(people), NestedAdapter.from_pretrained(data.parent / "run")
    assert after.config["num_queries"] == 32
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_a_folder_is_written_into_the_config_by_its_whole_path(data: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative one would be a name on the Hub."""
    monkeypatch.chdir(miniature.path())
    assert train(data, "--image_encoder_name_or_path", "../people/image_encoder", "--num_queries", "2") == 0
    named = NestedAdapter.from_pretrained(data.parent / "run").config["image_encoder"]
    assert named == str((miniature.path("people") / "image_encoder").resolve())


def test_earlier_adapter_of_other_settings(data: Path, capsys: pytest.CaptureFixture):
    flags = ("--pretrained_adapter_name_or_path", str(miniature.path("pets")), "--num_queries", "32")
    assert train(data, *flags) == 2
    shown = capsys.readouterr().err
    assert "subject_token 'pet'" in shown and "num_queries" not in shown
    assert not (data.parent / "run").exists()


def test_help_describes_every_flag(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as left:
        main(["train", "--help"])
    assert left.value.code == 0
    _, *entries = re.split(r"\n  (?=--)", capsys.readouterr().out.partition("\noptions:")[2])
    flags = {entry.split()[0].rstrip(","): entry for entry in entries}
    assert all(len(entry.partition("  ")[2].split()) > 3 for entry in entries), entries
    for field in fields(TrainingConfig):
        default = "none" if field.default in (None, ()) else field.default
        expected = "(required)" if field.default is MISSING else f"(default: {default})"
        assert flags[f"--{field.name}"].rstrip().endswith(expected), field.name
    assert all(entry.count("(default: ") + entry.count("(required)") == 1 for entry in flags.values())
    assert "Maximum learning rate, reached after the warm-up (default: 0.0001)" in flags["--learning_rate"]
    assert all(name in flags["--mechanism"] for name, one in MECHANISMS.items() if one.trained_as is None)


# the package itself and its commands may be heavy; what this module needs is not
STUBS = """
import argparse, importlib, sys, types
for name in ("diffusers_nested", "diffusers_nested.cli"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [f"{sys.argv[1]}/{name.replace('.', '/')}"]
train = importlib.import_module("diffusers_nested.cli.train")
parser = argparse.ArgumentParser()
train.add_arguments(parser)
assert "--learning_rate" in parser.format_help()
print([name for name in ("torch", "diffusers", "transformers", "numpy") if name in sys.modules])
"""


def test_help_needs_no_torch():
    src = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", STUBS, str(src)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_processes_on_cpus_train_one_adapter_together(data: Path):
    """As launched by torchrun, with nothing said about CPUs."""
    small = ("--pretrained_adapter_name_or_path", str(miniature.path("people")), "--num_queries", "32", "--alpha", "2")
    flags = (*small, "--max_train_steps", "2", "--logging_steps", "1", "--checkpointing_steps", "2")
    path = os.pathsep.join(str(Path(__file__).parents[2] / part) for part in ("src", "tests"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "two_processes", *arguments(data, *flags)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_log(data.parent / "run" / "log.jsonl")] == [1, 2]
    state = load_checkpoint(data.parent / "run" / "checkpoint-2")
    assert state["settings"]["processes"] == 2
    with pytest.raises(NestedAdapterError, match="processes was 2, now 1"):
        find_start(data.parent / "run", "latest", {**state["settings"], "processes": 1})
    alone = data.parent / "alone"
    assert train(data, *flags, "--train_batch_size", "4", "--output_dir", str(alone)) == 0
    together, by_one = (NestedAdapter.from_pretrained(folder).state_dict() for folder in (data.parent / "run", alone))
    # the optimiser moves each weight by up to 1.5e-4, and a gradient of almost nothing by its rounding
    differences = torch.cat([(together[name] - by_one[name]).abs().flatten() for name in by_one])
    assert differences.mean() < 5e-7


def test_a_dry_run_counts_and_writes_nothing(
    data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("diffusers_nested.training.memory.count_step", lambda *_: 12_000_000)  # tested beside it
    assert train(data, "--num_queries", "4", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Counted for each GPU: batch 2, 32 pixels, mixed precision no, without")
    parts = {line[:28].strip(): float(line[28:].split()[0]) for line in lines[1:]}
    assert list(parts) == ["frozen models", "adapter", "optimizer", "a step", "in all"] and parts["a step"] == 0.012
    assert parts["in all"] == pytest.approx(sum(parts.values()) - parts["in all"], abs=0.003)
    assert not (data.parent / "run").exists()


PHASES = """
[[phase]]
train_batch_size = 1

[[phase]]
resolution = 64
max_train_steps = 3
"""


@pytest.mark.slow
def test_phases(data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diffusers_nested.training.memory.count_step", lambda *_: 0)
    file = data.parent / "phases.toml"
    file.write_text(PHASES)
    flags = ("--num_queries", "2", "--phases", str(file))
    assert train(data, *flags, "--dry_run") == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if "Counted" in line]
    assert titles[0].startswith("Phase 1. Counted for each GPU: batch 1, 32 pixels")
    assert titles[1].startswith("Phase 2. Counted for each GPU: batch 2, 64 pixels")
    file.write_text(PHASES.replace("resolution = 64\n", "").replace("3", "1"))
    assert train(data, *flags) == 0
    run = data.parent / "run"
    assert [read_log(run / f"phase-{one}" / "log.jsonl")[-1]["phase"] for one in (1, 2)] == [1, 2]
    assert NestedAdapter.from_pretrained(run).config["num_queries"] == 2
    file.write_text("[[phase]]\ntrain_batch_size = 1\n")  # a single phase is one all the same
    single = (*flags, "--output_dir", str(data.parent / "single"))
    assert train(data, *single) == 0
    assert train(data, *single, "--resume_from_checkpoint", "latest", "--dry_run") == 0


def test_a_wrong_phase_is_told_before_models_are_loaded(data: Path, capsys: pytest.CaptureFixture):
    file = data.parent / "phases.toml"
    file.write_text(PHASES + "learning_rat = 1")
    assert train(data, "--pretrained_model_name_or_path", "nowhere", "--phases", str(file)) == 2
    assert "phase 2: unknown settings: learning_rat (learning_rate?)" in capsys.readouterr().err


def test_a_dry_run_checks_the_captions(data: Path, capsys: pytest.CaptureFixture):
    assert train(data, "--subject_token", "dog", "--dry_run") == 2
    assert WORDS in capsys.readouterr().err


def empty_photo(data: Path) -> tuple[str, ...]:
    (data / "mira.png").write_bytes(b"")
    return ()


def cut_photo(data: Path) -> tuple[str, ...]:
    (data / "mira.png").write_bytes((data / "mira.png").read_bytes()[:-40])
    return ()


def file_as_output(data: Path) -> tuple[str, ...]:
    (data.parent / "run").write_text("")
    return ()


def adapter_as_output(data: Path) -> tuple[str, ...]:
    (data.parent / "run").mkdir()
    (data.parent / "run" / "config.json").write_text("{}")
    return ()


REFUSED = {
    "an empty photo": (empty_photo, "mira.png is an empty file"),
    "a photo that is cut off": (cut_photo, "mira.png' cannot be read"),
    "a file as output": (file_as_output, "Cannot write to output_dir"),
    "an adapter as output": (adapter_as_output, "holds an adapter"),
    "no such checkpoint": (lambda data: ("--resume_from_checkpoint", "latets"), "latets is not a complete checkpoint"),
    "no such tracker": (lambda data: ("--log_with", "foo"), "log_with must be a tracker"),
    "no vision tower": (
        lambda data: ("--image_encoder_name_or_path", "nowhere"),
        "Name the folder of a vision tower",
    ),
}


@pytest.mark.parametrize(
    "dry_run", [pytest.param(("--dry_run",), id="dry run"), pytest.param((), id="run", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("prepare, message", REFUSED.values(), ids=REFUSED)
def test_a_dry_run_refuses_what_a_run_refuses(
    data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, prepare, message, dry_run
):
    monkeypatch.setattr("diffusers_nested.training.memory.count_step", lambda *_: 0)
    flags = prepare(data)
    before = sorted(data.parent.rglob("[!.]*"))
    assert train(data, "--num_queries", "4", *flags, *dry_run) == 2
    assert message in capsys.readouterr().err
    assert sorted(data.parent.rglob("[!.]*")) == before
