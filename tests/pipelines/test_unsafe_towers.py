"""Image encoders as people write them, which load, and what in their folders is not followed."""

import json
from pathlib import Path

import pytest
import torch
from damage import TOWER, edit_weights, processor, tower
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError
from diffusers_nested.errors import SubjectError
from diffusers_nested.vision import load_vision_tower
from diffusers_nested.vision.tower_files import read_tower_config

LEGITIMATE = {
    "ViT-H/14": {"hidden_size": 1280, "num_attention_heads": 16, "image_size": 224, "patch_size": 14},
    "ViT-L/14 at 336": {"hidden_size": 1024, "num_attention_heads": 16, "image_size": 336, "patch_size": 14},
    "ViT-bigG/14 at 448": {"hidden_size": 1664, "num_attention_heads": 16, "image_size": 448, "patch_size": 14},
    "ViT-L/14 at 896": {"hidden_size": 1024, "num_attention_heads": 16, "image_size": 896, "patch_size": 14},
    "whole numbers": {"attention_dropout": 0, "num_attention_heads": 2},
}


@pytest.mark.parametrize("values", LEGITIMATE.values(), ids=LEGITIMATE)
def test_towers_that_people_use_are_within_the_limits(tmp_path: Path, values: dict):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", **values}))
    read = read_tower_config(tmp_path / "config.json")
    assert {name: getattr(read, name) for name in values} == values


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 16, "crop_size": 16},
        {"size": {"shortest_edge": 16, "longest_edge": None}, "crop_size": {"height": 16, "width": 16}},
        {"size": {"height": 16, "width": 16}, "do_center_crop": False},
        {"size": {"shortest_edge": 20}, "crop_size": 16, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]},
        {"size": 16, "crop_size": 16, "image_mean": None, "do_rescale": False, "image_std": [58, 57, 57]},
    ],
)
def test_preprocessing_as_people_write_it(folder: Path, settings: dict):
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(settings))
    features = load_vision_tower(str(folder / "image_encoder"))([tiny.photo(0, 40).resize((40, 25))])
    assert torch.isfinite(features).all()


def test_photo_that_would_fill_the_memory(folder: Path):
    processor(size={"shortest_edge": 2048})(folder)
    encoder = load_vision_tower(str(folder / "image_encoder"))
    assert encoder([Image.new("RGB", (20, 20))]).shape[0] == 1
    with pytest.raises(SubjectError, match="4000 x 20 pixels would be resized to 2048 x 409600"):
        encoder([Image.new("RGB", (20, 20)), Image.new("RGB", (4000, 20))])


def test_what_a_towers_folder_says_beside_its_numbers_is_not_followed(folder: Path):
    """transformers would load that adapter, and take the attention's kernel from the Hub."""
    expected = load_vision_tower(str(folder / "image_encoder")).model.state_dict()
    tower(attn_implementation="somebody/kernel", auto_map={"AutoModel": "evil.Evil"}, torch_dtype="evil")(folder)
    (folder / "image_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/model"}')
    (folder / "image_encoder" / "evil.py").write_text("raise SystemExit")
    loaded = load_vision_tower(str(folder / "image_encoder")).model
    assert loaded.config._attn_implementation == "sdpa"
    assert all(torch.equal(expected[name], tensor) for name, tensor in loaded.state_dict().items())


def test_tower_of_a_whole_clip(folder: Path):
    """Its config holds the tower's, its weights more than the tower's; old files have positions, too."""
    expected = load_vision_tower(str(folder / "image_encoder")).model.state_dict()
    path = folder / "image_encoder" / "config.json"
    path.write_text(json.dumps({"model_type": "clip", "vision_config": json.loads(path.read_text())}))
    extra = {"text_model.x": torch.zeros(2), "vision_model.embeddings.position_ids": torch.arange(5)[None]}
    edit_weights(folder / TOWER, lambda weights: weights.update(extra))
    loaded = load_vision_tower(str(folder / "image_encoder")).model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(expected[name], tensor) for name, tensor in loaded.items())


def test_tower_in_shards(folder: Path):
    whole = load_file(folder / TOWER)
    (folder / TOWER).unlink()
    names = sorted(whole)
    for i, part in enumerate((names[::2], names[1::2])):
        save_file({name: whole[name] for name in part}, folder / f"image_encoder/model-{i}.safetensors")
    entries = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    index = folder / "image_encoder/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": entries}))
    loaded = load_vision_tower(str(folder / "image_encoder")).model.state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in loaded.items())
    index.write_text(json.dumps({"weight_map": {**entries, names[0]: "../model-0.safetensors"}}))
    with pytest.raises(AdapterLoadError, match="plain names"):
        load_vision_tower(str(folder / "image_encoder"))
