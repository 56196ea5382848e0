"""`diffusers-nested train` and `evaluate`, as a user calls them."""

import json
import sys
from collections import Counter

import pytest
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline
from accelerate_state import own_accelerator
from diffusers_nested import NestedAdapter
from diffusers_nested.cli import main

__all__ = ["own_accelerator"]


@pytest.fixture
def training_files(tmp_path):
    """Flags that name a pipeline, an image encoder and a folder of triplets."""
    pipeline = StableDiffusionXLPipeline(**tiny_pipeline.components(), add_watermarker=False)
    pipeline.save_pretrained(tmp_path / "pipeline")
    made = tiny_pipeline.adapter(pipeline.unet)
    tiny_pipeline.save_adapter(tmp_path / "adapter", made)
    rows = []
    for i in range(3):
        tiny_pipeline.photo(i).save(tmp_path / f"{i}.png")
        rows.append({"input_file_name": f"{i}.png", "file_name": f"{i}.png", "text": "a photo of a person"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = {
        "pretrained_model_name_or_path": tmp_path / "pipeline",
        "image_encoder_name_or_path": tmp_path / "adapter" / "image_encoder",
        "train_data_dir": tmp_path,
        "output_dir": tmp_path / "run",
        "resolution": 16,
        "train_batch_size": 2,
        "max_train_steps": 1,
        "num_queries": 2,
    }
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "mechanism", "alpha"),
    [
        ((), "nested", 2.0),
        (("--alpha", "none"), "nested", None),
        (("--mechanism", "decoupled"), "decoupled", None),
        (("--mechanism", "global_value", "--alpha", "3"), "global_value", 3.0),
    ],
)
def test_train_takes_the_mechanism_and_its_norm(training_files, tmp_path, flags, mechanism, alpha):
    assert main(["train", *training_files, *flags]) == 0
    config = NestedAdapter.from_pretrained(tmp_path / "run").config
    assert (config["mechanism"], config["alpha"]) == (mechanism, alpha)


@pytest.mark.parametrize(
    ("flags", "named"),
    [(("--mechanism", "nestled"), "multiple_tokens"), (("--mechanism", "simple", "--alpha", "2"), "alpha")],
)
def test_train_refuses_what_does_not_fit(training_files, tmp_path, capsys, flags, named):
    assert main(["train", *training_files, *flags]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


SETTINGS = """
output = "out"
prompts = ["a photo of a {} on the beach"]
scales = [1.0, 2.0]
subjects = { source = "miniature:people", count = 2 }
[contestants]
plain = { kind = "plain" }
people = { kind = "nested", adapter = "miniature:people" }
mine = { kind = "function", function = "my_method:draw", scales = [3.0] }
[metrics]
text = "miniature-text"
identity = "miniature-identity"
"""
METHOD = """
def draw(pipeline, shots, scale, call):
    assert scale == 3.0 and call["num_inference_steps"] == 2
    return [shot.reference.photos()[0] for shot in shots]
"""


@pytest.mark.slow
def test_evaluate_compares_and_flags_override_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    (tmp_path / "my_method.py").write_text(METHOD)
    monkeypatch.setattr("sys.path", list(sys.path))
    flags = ["--num-inference-steps", "2", "--seeds", "2", "--scales", "0.5", "--batch-size", "3", "--output", "other"]
    assert main(["evaluate", "settings.toml", *flags]) == 0
    rows = [json.loads(line) for line in (tmp_path / "other" / "results.jsonl").read_text().splitlines()]
    assert Counter((row["contestant"], row["scale"]) for row in rows) == {
        ("plain", 0.0): 4,
        ("people", 0.5): 4,
        ("mine", 3.0): 4,
    }
    assert all(row["scores"]["identity"] == pytest.approx(1.0) for row in rows if row["contestant"] == "mine")


def test_evaluate_ends_with_a_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").write_text(SETTINGS.replace("my_method", "no_such_method"))
    monkeypatch.setattr("sys.path", list(sys.path))
    assert main(["evaluate", "settings.toml"]) == 2
    assert main(["evaluate", "nowhere.toml"]) == 2
    assert "no_such_method" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
