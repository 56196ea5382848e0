"""Adapters and image encoders that a pipeline refuses; it is afterwards what it was, bit for bit."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES
from safetensors.torch import load_file, save_file

from diffusers_nested import AdapterLoadError, NestedAdapter
from diffusers_nested.hub import load_vision_tower

CASE = CASES[0]
WEIGHTS = "diffusion_pytorch_model.safetensors"
TOWER = "image_encoder/model.safetensors"


@pytest.fixture(scope="module")
def pipeline():
    return CASE.build()


@pytest.fixture
def folder(adapters, tmp_path: Path) -> Path:
    """A published adapter, to be damaged."""
    return shutil.copytree(adapters["person"], tmp_path / "adapter")


def snapshot(pipeline: Any) -> tuple:
    hashed = hashlib.sha256()
    for name, tensor in pipeline.unet.state_dict().items():
        hashed.update(name.encode() + tensor.numpy().tobytes())
    processors = {name: id(processor) for name, processor in pipeline.unet.attn_processors.items()}
    return type(pipeline), processors, hashed.hexdigest(), tuple(vars(pipeline.unet)), torch.get_default_dtype()


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_weights(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def fill(path: Path, value: float) -> None:
    edit_weights(path, lambda weights: next(iter(weights.values())).fill_(value))


def config(**values: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / "config.json", **values)


def tower(**values: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / "image_encoder" / "config.json", **values)


def processor(**values: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / "feature_extractor" / "preprocessor_config.json", **values)


def pickled(folder: Path, name: str) -> None:
    torch.save(load_file(folder / name), (folder / name).with_suffix(".bin"))
    (folder / name).unlink()


LAYERS = {f"mid_block.{i}.attn2": 8 for i in range(1000)}
# What is done to the folder, and what the message must name.
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a config without end": (lambda folder: (folder / "config.json").write_bytes(b" " * 2**21), "2097152 bytes"),
    "as many tokens as no memory holds": (config(num_queries=10**9), "num_queries"),
    "layers wider than any": (config(layers={"mid_block.attn2": 10**9}), "layers"),
    "sizes within the limits that are too large together": (
        config(layers=dict.fromkeys(LAYERS, 16_000), token_dim=16_000, qformer_num_layers=100),
        "parameters",
    ),
    "a larger Q-Former than the file holds": (config(qformer_num_layers=64), "misses"),
    "other layers": (config(layers={"mid_block.attn2": 8}), "another UNet"),
    "an unknown setting": (config(quantization_config={"quant_method": "bitsandbytes"}), "quantization_config"),
    "a newer format": (config(format_version=2), "Upgrade"),
    "a word that moves the cursor": (config(subject_token="\x1b[2J"), "subject_token"),
    "only a pickle": (lambda folder: pickled(folder, WEIGHTS), WEIGHTS),
    "NaN": (lambda folder: fill(folder / WEIGHTS, float("nan")), "NaN"),
    "no tower's config": (tower(model_type="llama"), "'llama'"),
    "a tower of code": (tower(model_type="evil", auto_map={"AutoConfig": "evil.Evil"}), "'evil'"),
    "a tower that is quantised": (tower(quantization_config={"quant_method": "gptq"}), "quantised"),
    "a tower of other sizes": (tower(num_hidden_layers=64), "misses"),
    "a tower without end": (tower(num_hidden_layers=10**6), "num_hidden_layers"),
    "a tower wider than any": (tower(hidden_size=10**6), "hidden_size"),
    "a tower of patches without end": (tower(image_size=10**6), "image_size"),
    "a tower of other features": (tower(hidden_size=48), "48"),
    "only a pickled tower": (lambda folder: pickled(folder, TOWER), "model.safetensors"),
    "a tower with NaN": (lambda folder: fill(folder / TOWER, float("nan")), "NaN"),
    "a tower cut short": (lambda folder: (folder / TOWER).write_bytes((folder / TOWER).read_bytes()[:-9]), "whole"),
    "a tower of whole numbers": (
        lambda folder: edit_weights(
            folder / TOWER, lambda weights: weights.update({name: x.int() for name, x in weights.items()})
        ),
        "I32",
    ),
    "pictures without end": (processor(crop_size={"height": 10**6, "width": 10**6}), "crop_size"),
    "preprocessing that is no dict": (
        lambda folder: (folder / "feature_extractor" / "preprocessor_config.json").write_text("[]"),
        "preprocessor_config",
    ),
}


@pytest.mark.parametrize(("damage", "named"), REFUSED.values(), ids=REFUSED)
def test_refused_adapter_leaves_no_trace(pipeline, folder: Path, damage: Callable[[Path], Any], named: str):
    before = snapshot(pipeline)
    damage(folder)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        pipeline.load_nested_adapter(folder)
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()
    assert snapshot(pipeline) == before


def test_second_of_two_adapters_is_refused(pipeline, adapters, folder: Path):
    before = snapshot(pipeline)
    fill(folder / WEIGHTS, float("inf"))
    with pytest.raises(AdapterLoadError, match="infinite"):
        pipeline.load_nested_adapter([adapters["pet"], folder])
    assert snapshot(pipeline) == before


@pytest.mark.parametrize("name", ["/no/tower", "../tower", "~/tower", "user/../tower", "user", "user/repo/..", "a//b"])
def test_image_encoder_that_is_no_repository(pipeline, folder: Path, name: str):
    before = snapshot(pipeline)
    shutil.rmtree(folder / "image_encoder")
    edit_json(folder / "config.json", image_encoder=name)
    with pytest.raises(AdapterLoadError, match="not user/repo"):
        pipeline.load_nested_adapter(folder)
    assert snapshot(pipeline) == before


def test_image_encoder_in_another_folder_of_this_machine(folder: Path, tmp_path: Path):
    """As an adapter that was trained here may name it."""
    shutil.move(folder / "image_encoder", tmp_path / "tower")
    shutil.move(folder / "feature_extractor", tmp_path / "feature_extractor")
    edit_json(folder / "config.json", image_encoder=str(tmp_path / "tower"))
    pipeline = CASE.build()
    pipeline.load_nested_adapter(folder)
    assert list(pipeline.nested_adapters) == ["person"]


def test_the_unet_is_compared_before_the_weights_are_read(pipeline, folder: Path):
    """Whatever lies there in their place."""
    (folder / WEIGHTS).write_bytes(b"not read")
    edit_json(folder / "config.json", token_dim=41)
    with pytest.raises(AdapterLoadError, match="width 41"):
        pipeline.load_nested_adapter(folder)
    with pytest.raises(AdapterLoadError, match="width 41"):
        NestedAdapter.from_pretrained(folder, unet=pipeline.unet)


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
