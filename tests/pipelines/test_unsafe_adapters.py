"""Adapters and image encoders that a pipeline refuses; it is afterwards what it was, bit for bit."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES
from damage import TOWER, WEIGHTS, config, edit_json, edit_weights, fill, pickled, processor, times, tower

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError

CASE = CASES[0]


@pytest.fixture(scope="module")
def pipeline():
    return CASE.build()


def snapshot(pipeline: Any) -> tuple:
    hashed = hashlib.sha256()
    for name, tensor in pipeline.unet.state_dict().items():
        hashed.update(name.encode() + tensor.numpy().tobytes())
    processors = {name: id(processor) for name, processor in pipeline.unet.attn_processors.items()}
    return type(pipeline), processors, hashed.hexdigest(), tuple(vars(pipeline.unet)), torch.get_default_dtype()


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
    "no preprocessing": (lambda folder: shutil.rmtree(folder / "feature_extractor"), "224 x 224.*16 x 16"),
    "a crop of another size": (processor(crop_size={"height": 15, "width": 15}), "15 x 15.*16 x 16"),
    "a crop that is not square": (processor(crop_size={"height": 16, "width": 32}), "16 x 32.*16 x 16"),
    "no crop": (processor(do_center_crop=False), "own shape.*16 x 16"),
    "a size of another tower": (processor(do_center_crop=False, size={"height": 8, "width": 8}), "8 x 8.*16 x 16"),
    "neither crop nor size": (processor(do_center_crop=False, do_resize=False), "own shape"),
    "a division by zero": (processor(image_std=[0.5, 0, 0.5]), "image_std"),
    "a division by almost zero": (processor(image_std=[0.5, 0.5, 1e-300]), "image_std"),
    "photos that become black": (processor(rescale_factor=0), "rescale_factor"),
    "a size without sides": (processor(size={}), "size"),
    "a size with one side": (processor(size={"height": 16}), "size"),
    "a size of other sides": (processor(size={"longest_edge": 16}), "size"),
    "a crop by the shorter side": (processor(crop_size={"shortest_edge": 16}), "crop_size"),
    "a shorter side of thousands of pixels": (processor(size={"shortest_edge": 4096}), "size.*2048"),
    "attention without end": (
        config(num_queries=8192, qformer_num_heads=256, qformer_hidden_size=256),
        "num_queries 8192 with qformer_num_heads 256.*5.4e",
    ),
    "more tokens than any": (config(num_queries=8193), "num_queries.*8192"),
    "patches without end": (tower(image_size=2048, patch_size=4), "262144.*4096"),
    "a tower's attention without end": (
        tower(hidden_size=64, num_attention_heads=64, image_size=1024, patch_size=16),
        "4096 patches and num_attention_heads 64",
    ),
    "a norm of nothing": (tower(layer_norm_eps=0), "layer_norm_eps"),
    "a whole number for a part": (tower(layer_norm_eps=1), "layer_norm_eps"),
    "an activation with weights": (tower(hidden_act="prelu"), "hidden_act.*quick_gelu"),
    "heads that do not divide": (tower(num_attention_heads=5), "num_attention_heads 5"),
    "a patch larger than the picture": (tower(patch_size=17), "patch_size 17.*image_size 16"),
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


NOT_FINITE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a tower": (times(TOWER, 1e30, "layer_norm"), "image encoder gave image features"),
    "a Q-Former": (times(WEIGHTS, 1e38, "to_tokens.1"), "subject tokens|layers would read"),
    "the layers' projections": (times(WEIGHTS, 1e25, "projections"), "layers would read"),
    "projections that are finite and immense": (times(WEIGHTS, 1e9, "projections"), "values up to"),
}


@pytest.mark.parametrize(("damage", "named"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_what_is_not_finite_is_no_picture(pipeline, adapters, folder: Path, damage: Callable[[Path], Any], named: str):
    """Weights that are finite, and features, tokens, keys or values that are not."""
    damage(folder)
    before = snapshot(pipeline)
    pipeline.load_nested_adapter(folder)
    settings = {"num_inference_steps": 1, "height": 16, "width": 16, "output_type": "np"}
    with pytest.raises(NestedAdapterError, match=named):
        pipeline("a photo of a person", nested_adapter_image=tiny.photo(), **settings)
    pipeline.unload_nested_adapter()
    assert snapshot(pipeline) == before
    assert np.isfinite(pipeline("a photo of a person", **settings).images).all()


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
