"""hub_configs/: what stands there builds, fits its base, and has the sizes that the cards state."""

import argparse
import importlib.util
import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from diffusers import UNet2DConditionModel

from diffusers_nested import NestedAdapter, cli, miniature
from diffusers_nested.backbones import BACKBONES
from diffusers_nested.cli import train
from diffusers_nested.training import TrainingConfig, read_phases
from recipes.miniature.bundled import adapters as making
from sd15 import sd15_unet
from sdxl import sdxl_unet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[1] / "hub_configs"
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/config.json"))
SDXL = ("humans", "pets", "template")
SD15 = ("humans-sd15",)
BASES = {**dict.fromkeys(SDXL, "sdxl"), **dict.fromkeys(SD15, "sd15")}
MINIATURES = {"miniature-people": "people", "miniature-pets": "pets"}


@pytest.fixture(scope="module")
def unets() -> dict[str, UNet2DConditionModel]:
    config: Any = UNet2DConditionModel.load_config(miniature.path() / "unet")
    with torch.device("meta"):
        made: Any = UNet2DConditionModel.from_config(config)
        return {"sdxl": sdxl_unet(), "sd15": sd15_unet(), "miniature": made}


def build(folder: str) -> NestedAdapter:
    return NestedAdapter.from_config_file(ROOT / folder / "config.json", folder)


def card(folder: str) -> str:
    return (ROOT / folder / "README.md").read_text(encoding="utf-8")


def row(text: str, label: str) -> str:
    found = re.search(rf"^\| {re.escape(label)} \| (.+?) \|$", text, re.MULTILINE)
    assert found is not None, label
    return found[1]


def commands(folder: str) -> list[list[str]]:
    script = (ROOT / folder / "train.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in script.splitlines()]
    return [line for line in lines if line and line != ["set", "-e"]]


def test_nothing_is_left_out():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert {*BASES, *MINIATURES} == set(FOLDERS) == folders - {"accelerate", "space"}


def test_the_space_installs_what_the_app_needs_and_calls_it(monkeypatch: pytest.MonkeyPatch):
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [
        *project["dependencies"],
        *(one for name in ("app", "train") for one in project["optional-dependencies"][name]),
    ]
    assert (ROOT / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines() == needed
    front = yaml.safe_load(card("space").split("---\n", 2)[1])
    assert (front["sdk"], front["app_file"], front["license"]) == ("gradio", "app.py", "apache-2.0")
    called: list[argparse.Namespace] = []
    monkeypatch.setattr(cli.app, "run", called.append)
    monkeypatch.setenv("NESTED_APP", "--pipeline user/base --adapter user/people")
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "space" / front["app_file"]), run_name="__main__")
    assert end.value.code == 0
    assert (called[0].server_name, called[0].pipeline, called[0].adapter) == ("0.0.0.0", "user/base", ["user/people"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_config_fits_its_base(folder: str, unets: dict):
    base = BASES.get(folder, "miniature")
    build(folder).check_fits(unets[base])
    for other in unets.keys() - {base}:
        with pytest.raises(ValueError, match="family" if "sd15" in (base, other) else "another UNet"):
            build(folder).check_fits(unets[other])


@pytest.mark.parametrize("folder", FOLDERS)
def test_card_states_the_true_sizes(folder: str):
    adapter, text = build(folder), card(folder)
    parameters = sum(parameter.numel() for parameter in adapter.parameters())
    stated = [f"{parameters:,}", f"{2 * parameters / 1e6:.1f} MB"]
    assert [row(text, "Parameters"), row(text, "fp16")] == stated
    assert row(text, "Subject tokens per photo") == str(adapter.config["num_queries"])
    assert row(text, "Word") == adapter.config["subject_token"]
    listed = re.search(rf"^\| \[{folder}\].*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed is not None
    assert listed[0].split(" | ")[1] == adapter.config["subject_token"]
    assert listed[0].split(" | ")[3:6] == [str(adapter.config["num_queries"]), *stated]


@pytest.mark.parametrize("folder", FOLDERS)
def test_card_has_metadata(folder: str):
    _, front, text = card(folder).split("---\n", 2)
    data = yaml.safe_load(front)
    assert {"diffusers-nested", "nested-attention"} <= set(data["tags"])
    assert data["pipeline_tag"] == "text-to-image" and data["license"]
    assert text.strip().startswith("# ")


@pytest.mark.parametrize(("folder", "queries", "word"), [("humans", 1024, "person"), ("pets", 256, "pet")])
def test_settings_of_the_paper(folder: str, queries: int, word: str):
    config = build(folder).config
    assert (config["num_queries"], config["subject_token"], config["alpha"]) == (queries, word, 2.0)


@pytest.mark.parametrize(("folder", "name"), MINIATURES.items())
def test_miniatures_are_the_bundled_ones(folder: str, name: str):
    bundled = (miniature.path(name) / "config.json").read_text(encoding="utf-8")
    assert json.loads((ROOT / folder / "config.json").read_text(encoding="utf-8")) == json.loads(bundled)
    assert f"{making.STEPS[name]} steps" in card(folder)
    for words in commands(folder):
        if words[0] not in ("mkdir", "cp", "ln"):
            assert words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2]) is not None
    assert commands(folder)[-1][3:] == ["runs/miniature", name]


def phases_of(folder: str) -> list[tuple[int, argparse.Namespace, TrainingConfig]]:
    """(GPUs, arguments, settings) of each command of a recipe."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    phases = []
    for words in commands(folder):
        assert words[:3] == ["accelerate", "launch", "--num_processes"]
        assert words[4:7] == ["-m", "diffusers_nested.cli", "train"]
        arguments = parser.parse_args(words[7:])
        settings = {name: getattr(arguments, name) for name in TrainingConfig.__dataclass_fields__}
        phases.append((int(words[3]), arguments, TrainingConfig(**settings)))
        config = build(folder).config
        given = (arguments.subject_token, arguments.num_queries, arguments.alpha)
        assert given == (config["subject_token"], config["num_queries"], config["alpha"])
        assert arguments.image_encoder_name_or_path == [config["image_encoder"]]
        assert all(config["subject_token"] in prompt for prompt in arguments.validation_prompts)
        front = yaml.safe_load(card(folder).split("---\n", 2)[1])
        assert arguments.pretrained_model_name_or_path == front["base_model"]
    return phases


@pytest.mark.parametrize("folder", SD15)
def test_recipe_for_one_gpu(folder: str):
    ((gpus, _, settings),) = phases_of(folder)
    batch = settings.train_batch_size * settings.gradient_accumulation_steps
    assert (gpus, settings.resolution, settings.gradient_checkpointing) == (1, 512, True)
    text = card(folder)
    passes = f"{settings.train_batch_size} examples in {settings.gradient_accumulation_steps} forward passes"
    assert row(text, "Batch in all") == f"{batch}, as {passes}"
    assert row(text, "Steps") == f"{settings.max_train_steps:,}"
    assert settings.max_train_steps * batch == 70_000 * int(row(text, "Epochs"))
    config = build(folder).config
    assert str(BACKBONES["sd15"].base_model(config).repository) in text


@pytest.mark.parametrize("folder", SDXL)
def test_recipe_in_two_phases(folder: str):
    (first_gpus, _, first), (second_gpus, second_arguments, second) = phases_of(folder)
    assert second_arguments.pretrained_adapter_name_or_path == first.output_dir
    assert (first.resolution, second.resolution) == (512, 1024)
    text = card(folder)
    batches = [first_gpus * first.train_batch_size, second_gpus * second.train_batch_size]
    assert f"| Batch in all | {batches[0]} | {batches[1]} |" in text
    assert f"| Steps | {first.max_train_steps:,} | {second.max_train_steps:,} |" in text
    pictures = {"humans": 70_000, "pets": 66_000}.get(folder)
    if pictures is not None:  # 100 epochs each, in the paper's batches
        assert batches == {"humans": [32, 16], "pets": [128, 32]}[folder]
        steps = [-(-pictures * 100 // batch) for batch in batches]
        assert steps == [first.max_train_steps, second.max_train_steps]


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2"])
def test_configuration_of_the_launcher(name: str):
    """accelerate refuses a file with keys that it does not know."""
    config = load_config_from_file(str(ROOT / "accelerate" / f"{name}.yaml"))
    assert (config.num_machines, config.num_processes, config.mixed_precision) == (1, 8, "bf16")
    assert config.distributed_type == ("MULTI_GPU" if name == "ddp" else "FSDP")
    fsdp = config.fsdp_config
    assert fsdp.get("fsdp_version") == (None if name == "ddp" else 2)
    assert fsdp.get("fsdp_reshard_after_forward") == {"ddp": None, "fsdp2": True, "zero2": False}[name]


def test_the_job_for_a_cluster_trains_as_the_script_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT.parent)
    text = (ROOT / "humans" / "train.slurm").read_text(encoding="utf-8").replace("\\\n", " ")
    (job,) = [shlex.split(line)[4] for line in text.splitlines() if line.startswith("srun ")]
    words = shlex.split(job)
    assert words[:4] == ["accelerate", "launch", "--config_file", "hub_configs/accelerate/ddp.yaml"]
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    arguments = parser.parse_args(words[words.index("train") + 1 :])
    common = {name: getattr(arguments, name) for name in TrainingConfig.__dataclass_fields__}
    own = {"output_dir", "train_batch_size", "checkpointing_steps"}
    gpus = 8
    for config, (count, other, settings) in zip(
        read_phases(arguments.phases, **common), phases_of("humans"), strict=True
    ):
        assert gpus * config.train_batch_size == count * settings.train_batch_size
        assert {k: v for k, v in vars(config).items() if k not in own} == {
            k: v for k, v in vars(settings).items() if k not in own
        }
        for name in ("subject_token", "num_queries", "alpha", "image_encoder_name_or_path", "train_data_dir"):
            assert getattr(arguments, name) == getattr(other, name)
