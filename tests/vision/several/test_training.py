"""Adapters of several vision towers are trained, in Python and by the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.cli import main
from diffusers_nested.cli.train import _check_features, _image_encoder
from diffusers_nested.data import Triplet
from diffusers_nested.training import TrainingConfig, train_adapter
from diffusers_nested.vision import ImageEncoders
from two_towers import CLIP, DINO, pair


def run_of(pipeline: Any, encoder: Any, adapter: NestedAdapter, folder: Path, **changes: Any) -> NestedAdapter:
    triplets = [Triplet(tiny.photo(i), "a photo of a person", tiny.photo(9 + i)) for i in range(3)]
    settings = {"resolution": 16, "train_batch_size": 2, "max_train_steps": 2, "learning_rate": 1e-3}
    settings |= {"cache_features": True}
    config = TrainingConfig(folder, **{**settings, **changes})
    shown = [tiny.photo(1)] if config.validation_prompts else []
    return train_adapter(pipeline, encoder, adapter, triplets, config, shown)


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
def test_training_reaches_every_part(folder, pipeline, tmp_path, cached):
    adapter = NestedAdapter.from_pretrained(folder).train()
    before = {name: x.clone() for name, x in adapter.state_dict().items() if "towers" in name}
    changes = (
        {"cache_folder": tmp_path / "cache"}
        if cached
        else {"cache_features": False, "validation_prompts": ["a photo of a person"]}
    )
    for name in ("run", "other") if cached else ("run",):  # the second one reads the folder
        run_of(pipeline, pair(folder), adapter, tmp_path / name, **changes)
    assert len(before) == 5
    for name, x in before.items():
        assert not torch.equal(adapter.state_dict()[name], x), name
    assert json.loads((tmp_path / "run" / "config.json").read_text())["image_feature_dim"] == [CLIP, DINO]


def test_training_with_other_towers_is_refused_at_once(folder, pipeline, tmp_path):
    adapter = NestedAdapter.from_pretrained(folder)
    encoders = pair(folder)
    swapped = "image encoder 1 is a 'dinov2_with_registers', but the adapter reads a 'clip_vision_model'"
    few = "reads 2 vision towers, but the image encoder has 1"
    for wrong, named in ((ImageEncoders(encoders.parts[::-1]), swapped), (encoders.parts[0], few)):
        with pytest.raises(NestedAdapterError, match=named):
            run_of(pipeline, wrong, adapter, tmp_path / "run")
    single = tiny.adapter(pipeline.unet, image_feature_dim=DINO)
    with pytest.raises(NestedAdapterError, match=r"'dinov2_with_registers', but .*\*\*image_encoder.adapter_settings"):
        run_of(pipeline, encoders.parts[1], single, tmp_path / "run")
    with pytest.raises(NestedAdapterError, match="reads 1 vision tower, but the image encoder has 2"):
        run_of(pipeline, encoders, single, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_command_line(folder, tmp_path, capsys, monkeypatch):
    """Train with two towers, inspect what was made, and prepare it for the Hub."""
    monkeypatch.chdir(tmp_path)
    StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False).save_pretrained("base")
    tiny.photo(1).save("1.png")
    row = {"input_file_name": "1.png", "file_name": "1.png", "text": "a photo of a person"}
    Path("metadata.jsonl").write_text(json.dumps(row))
    flags = ["--pretrained_model_name_or_path", "base", "--train_data_dir", ".", "--resolution", "16"]
    flags += ["--train_batch_size", "1", "--max_train_steps", "1", "--num_queries", "3"]
    both = [str(folder / "image_encoder"), str(folder / "image_encoder_2")]
    chosen = ["--image_encoder_name_or_path", *both, "--image_features", "last", "pooled"]
    assert main(["train", *flags, *chosen, "--output_dir", "run"]) == 0
    config = NestedAdapter.from_pretrained("run").config
    assert config["image_encoder"] == both and config["image_feature_dim"] == [CLIP, DINO]
    assert config["image_features"] == ["last", "pooled"] and config["image_feature_count"] == [5, 1]
    begun = NestedAdapter.from_unet(tiny.components()["unet"], start_from="run")
    encoder, named = _image_encoder(None, begun)  # those of the adapter to start from
    assert named == both and begun.config["image_features"] == ["last", "pooled"]
    assert [part.kind for part in encoder.parts] == ["clip_vision_model", "dinov2_with_registers"]
    with pytest.raises(NestedAdapterError, match="reads 2 vision towers, but the image encoder has 1"):
        _image_encoder(both[:1], begun)
    with pytest.raises(NestedAdapterError, match="--image_features is 'last', but run reads last pooled"):
        _check_features("last", begun, "run")
    capsys.readouterr()
    assert main(["inspect", "run"]) == 0
    out = capsys.readouterr().out
    assert f"image encoder   {both[0]}; clip_vision_model, last features of width {CLIP}\n" in out
    assert f"image encoder 2 {both[1]}; dinov2_with_registers, pooled features of width {DINO}\n" in out
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "image encoder 2 image_encoder_2/, its own; dinov2_with_registers, features of width 20\n" in out
    assert "image_encoder_2/model.safetensors" in out
