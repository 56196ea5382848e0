"""`diffusers-nested convert`, and the other commands on IP-Adapters and on what it leaves."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionXLPipeline
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny_pipeline as tiny
from accelerate_state import own_accelerator
from diffusers_nested import NestedAdapter
from diffusers_nested.adapter import convert, inspect_adapter
from diffusers_nested.adapter.ip_adapter import IMPORTED_MECHANISM
from diffusers_nested.backbones import BACKBONES
from diffusers_nested.backbones.base import BaseModel, Transformers
from diffusers_nested.cli import main
from diffusers_nested.files.source import Source
from hub.steps import published
from ip_adapter_files import repository

__all__ = ["own_accelerator"]
PLUS, BASE = "sdxl_models/plus_small.safetensors", "models/base.safetensors"
TINY = (
    Transformers("down_blocks.0", count=1, depth=1, width=32),
    Transformers("down_blocks.1", count=1, depth=1, width=64),
    Transformers("up_blocks.0", count=2, depth=1, width=64),
    Transformers("up_blocks.1", count=2, depth=1, width=32),
    Transformers("mid_block", count=1, depth=1, width=64),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """IP-Adapters, the plus one in half precision."""
    made = repository(tmp_path_factory.mktemp("ip"), tiny.components()["unet"])
    save_file({name: tensor.half() for name, tensor in load_file(made / PLUS).items()}, made / PLUS)
    return made


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tiny UNet is a base model that files can be recognised for."""
    base = BaseModel("Tiny", "alice/base", 40, TINY)
    monkeypatch.setitem(BACKBONES, "sdxl", replace(BACKBONES["sdxl"], base_models=(base,)))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def converted(folder: Path, *flags: str, name: str = PLUS) -> Path:
    top, _, file = name.partition("/")
    assert main(["convert", str(folder), "out", "--subfolder", top, "--weight_name", file, *flags]) == 0
    return Path("out")


TOWER = ("--image_encoder_folder", "models/image_encoder")


def test_a_folder_like_any_other(folder, capsys):
    out = converted(folder, *TOWER, "--subject_token", "child", "--mechanism", "nested", "--alpha", "3")
    assert capsys.readouterr().out == f"{out.resolve()}\n"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "README.md",
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "feature_extractor/preprocessor_config.json",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
    ]
    tensors = load_file(out / "diffusion_pytorch_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float16"}
    config = json.loads((out / "config.json").read_text())
    assert (config["subject_token"], config["mechanism"], config["alpha"]) == ("child", "nested", 3.0)
    assert config["image_encoder"] is None and not any(name.startswith("qformer") for name in config)
    assert str(folder) not in (out / "config.json").read_text() + (out / "README.md").read_text()
    pipeline = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    pipeline.load_nested_adapter(out)
    pipeline.load_nested_adapter(folder / PLUS, adapter_name="file", image_encoder_folder=None)
    ours, theirs = (pipeline.nested_adapters[name].state_dict() for name in ("child", "file"))
    assert ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)
    assert pipeline.encode_nested_adapter_image(tiny.photo(1), "child").shape == (1, 16, 40)


def test_what_a_folder_has_is_inspected_and_published(hub, folder, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-alice")
    out = converted(folder, *TOWER, "--subject_token", "child")
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "resampler       4 blocks of width 64, 1 heads\n" in shown
    assert "image encoder   image_encoder/, its own; features of width 24" in shown
    assert f"mechanism       {IMPORTED_MECHANISM}, alpha None" in shown
    assert main(["publish", str(out), "alice/mine"]) == 0
    files = hub.repos["alice/mine"].files()
    assert files.keys() >= {
        "config.json",
        "image_encoder/model.safetensors",
        "feature_extractor/preprocessor_config.json",
    }
    card = files["README.md"].decode()
    assert '"child" of a prompt' in card and "those of `plus_small.safetensors`, converted" in card
    assert "license:" not in card and card.count("## Training data") == 1
    published(hub, folder, "alice/ip")
    loaded = NestedAdapter.from_pretrained("alice/mine")
    assert NestedAdapter.from_ip_adapter("alice/ip", weight_name=PLUS).push_to_hub(
        "alice/again", image_encoder=out / "image_encoder"
    )
    again = NestedAdapter.from_pretrained("alice/again")
    assert all((tensor == again.state_dict()[name]).all() for name, tensor in loaded.state_dict().items())


def test_a_tower_on_the_hub_is_named_and_not_downloaded(hub, folder, capsys):
    published(hub, folder, "alice/ip")
    out = converted("alice/ip", *TOWER)
    assert NestedAdapter.from_pretrained(out).config["image_encoder"] == "alice/ip/models/image_encoder"
    assert not (out / "image_encoder").exists()
    assert not [path for path in hub.downloads() if path.endswith("model.safetensors")]
    assert "plus_small.safetensors` of [alice/ip](https://huggingface.co/alice/ip)" in (out / "README.md").read_text()


def test_a_file_by_itself(hub, folder, tmp_path, caplog):
    shutil.copy(folder / BASE, tmp_path / "mine.safetensors")
    assert main(["convert", "mine.safetensors", "out"]) == 0
    assert not hub.requests and not Path("out", "image_encoder").exists()
    assert "no image encoder found" in caplog.text  # none is published of this width


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--weight_name", "plus_small.safetensors"), "of width 32, but the adapter reads 24.*--image-encoder-folder"),
        (("--weight-name", "plus_smal.safetensors"), "such as sdxl_models/plus_small.safetensors"),
        (("--weight_name", "plus_small.bin"), "is a pickle"),
        ((), "--weight-name"),
        (("--weight_name", "base.safetensors", "--alpha", "2"), "alpha must be None"),
        (("--weight_name", "base.safetensors", "--mechanism", "simple"), "other projections"),
        (("--weight_name", "base.safetensors", "--subject_token", ""), "subject_token must be a word"),
    ],
    ids=str,
)
def test_refused_and_nothing_written(folder, capsys, flags, named):
    assert main(["convert", str(folder), "out", "--subfolder", "sdxl_models", *flags]) == 2
    shown = capsys.readouterr()
    assert not list(Path().iterdir()) and not shown.out
    assert shown.err.startswith("diffusers-nested convert: ") and len(shown.err.splitlines()) == 1
    assert re.search(named, shown.err), shown.err


def test_a_file_that_is_not_there(folder, capsys):
    assert main(["convert", str(folder / "typo.safetensors"), "out"]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_what_is_there_stays(folder, capsys):
    Path("out").mkdir()
    Path("out", "mine").write_text("mine")
    for output, named in (
        ("out", "exists already"),
        ("out/mine", "exists already"),
        ("no/folder", "no folder"),
        (".", "exists"),
    ):
        assert main(["convert", str(folder / BASE), output]) == 2
        assert named in capsys.readouterr().err
    assert [path.name for path in Path().rglob("*")] == ["out", "mine"]


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError("The disk is full.")

    monkeypatch.setattr(convert, "save_parts", fail)
    assert main(["convert", str(folder / BASE), "out"]) == 1
    assert "The disk is full." in capsys.readouterr().err and not list(Path().iterdir())


def test_inspect_says_what_a_file_is(hub, folder, capsys):
    published(hub, folder, "alice/ip")
    pieces = []
    for source in (str(folder), "alice/ip"):
        assert main(["inspect", source, "--subfolder", "sdxl_models", "--weight-name", "plus_small.safetensors"]) == 0
        pieces.append(capsys.readouterr().out.replace(source, "SOURCE"))
    assert pieces[0].splitlines()[-1] == pieces[1].splitlines()[-1]  # sizes and types
    for shown in pieces:
        assert "format          the file of an IP-Adapter, plus\n" in shown
        assert "base family     sdxl, 7 layers\n" in shown
        assert "subject tokens  16 per image, of width 40\n" in shown
        assert "cannot be determined" in shown and "of width 32, but the adapter reads 24" in shown
        assert "plus_small.safetensors  0." in shown and shown.rstrip().endswith("F16")
    assert not [path for path in hub.downloads() if path.endswith("plus_small.safetensors")][1:]
    assert not list(Path("cache").rglob("*.safetensors"))
    assert main(["inspect", str(folder / BASE)]) == 0
    shown = capsys.readouterr().out
    assert "IP-Adapter, base\n" in shown and "image_encoder/, its own; features of width 16" in shown
    assert main(["inspect", "alice/ip", "--weight_name", "sdxl_models/plus_smal.safetensors"]) == 2
    assert "such as sdxl_models/plus_small.safetensors" in capsys.readouterr().err


def test_inspect_without_a_connection(hub, folder):
    published(hub, folder, "alice/ip")
    Source("alice/ip").find(BASE)
    found = inspect_adapter(Source("alice/ip", "models", local_files_only=True), "base.safetensors")
    assert found.adapter.config["num_queries"] == 4 and not found.is_complete


def test_generate_with_a_file(hub, folder, capsys):
    StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False).save_pretrained("base")
    published(hub, folder, "alice/ip")
    tiny.photo(3).save("photo.png")
    common = ("--pipeline", "base", "--num-inference-steps", "2", "--height", "16", "--width", "16", "--device", "cpu")
    where = ("--subfolder", "models", "--weight-name", "base.safetensors")
    runs = {
        "plain": (),
        "file": ("--image", "photo.png", "--adapter", str(folder / BASE)),
        "named": ("--image", "photo.png", "--adapter", "alice/ip", *where),
        "pet": ("--image", "photo.png", "--adapter", "alice/ip", *where, "--subject_token", "pet"),
        "nested": ("--image", "person=photo.png", "--adapter", str(folder / BASE), "--mechanism", "nested"),
    }
    pictures = {}
    for name, flags in runs.items():
        flags = flags or ("--adapter", str(folder / BASE))
        prompt = "a photo of a person walking a pet"
        assert main(["generate", prompt, *common, *flags, "--output", f"{name}.png"]) == 0
        with Image.open(f"{name}.png") as picture:
            pictures[name] = np.asarray(picture)
    assert np.array_equal(pictures["file"], pictures["named"])
    for name in ("file", "nested"):
        assert not np.array_equal(pictures[name], pictures["plain"])
    capsys.readouterr()
    adapters = ("--adapter", "alice/ip", "--adapter", "alice/ip", *where)
    assert main(["generate", "a person", *common, *adapters, "--output", "no.png"]) == 2
    assert "both have the word 'person'" in capsys.readouterr().err


def test_train_starts_from_a_file(folder, tmp_path, capsys):
    pipeline = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    pipeline.save_pretrained("base")
    rows = [{"input_file_name": "1.png", "file_name": "1.png", "text": "a photo of a person"}]
    tiny.photo(1).save("1.png")
    Path("metadata.jsonl").write_text(json.dumps(rows[0]))
    flags = ["--pretrained_model_name_or_path", "base", "--train_data_dir", ".", "--output_dir", "run"]
    flags += ["--resolution", "16", "--train_batch_size", "1", "--max_train_steps", "1", "--learning_rate", "1e-9"]
    flags += ["--start_from", str(folder / BASE)]
    assert main(["train", *flags, "--num_queries", "8"]) == 2
    assert "num_queries is 8, but the adapter to start from has 4" in capsys.readouterr().err
    shutil.copytree(folder / "sdxl_models" / "image_encoder", "other/image_encoder")
    tiny.image_processor().save_pretrained("other/feature_extractor")
    assert main(["train", *flags, "--image_encoder_name_or_path", "other/image_encoder"]) == 2
    assert "gives pooled features of width 20, the adapter reads 16" in capsys.readouterr().err
    assert main(["train", *flags, "--pretrained_adapter_name_or_path", "run"]) == 2
    assert "Give one of them" in capsys.readouterr().err
    assert not Path("run").exists()
    assert main(["train", *flags]) == 0
    made = NestedAdapter.from_pretrained("run")
    assert made.config["image_encoder"] == str(folder / "models" / "image_encoder")
    assert (made.config["mechanism"], made.config["num_queries"]) == ("nested", 4)
    start = NestedAdapter.from_ip_adapter(folder / BASE)
    assert all(abs(tensor - made.state_dict()[name]).max() < 1e-6 for name, tensor in start.state_dict().items())
