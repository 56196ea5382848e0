"""Every setting of an adapter is checked, given by hand or read from its config."""

from pathlib import Path
from typing import Any

import pytest
import torch

from adapter_files import LAYER, edit_config
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.errors import AdapterLoadError, NestedAdapterError

NOT_A_SIZE = [0, -1, 2.0, "4", None, True, 16_385, 10**4000]
TAKEN = {"mid_block.training.attn2": 8}  # every module has an attribute "training", so no submodule can have this name
NESTED = {"mid_block.attn2": 8, "mid_block.attn2.attn2": 8}
MANY = {f"blocks.{i}.attn2": 1 for i in range(1025)}
LONG = {"a" * 257: 8}
BAD_SETTINGS: dict[str, list[Any]] = {
    "layers": [
        {},
        None,
        [8],
        {LAYER: 0},
        {LAYER: 8.0},
        {LAYER: "8"},
        {LAYER: True},
        {"": 8},
        {"a..b": 8},
        TAKEN,
        NESTED,
        MANY,
        LONG,
    ],
    "token_dim": NOT_A_SIZE,
    "image_feature_dim": NOT_A_SIZE,
    "num_queries": NOT_A_SIZE,
    "qformer_hidden_size": NOT_A_SIZE,
    "qformer_num_layers": NOT_A_SIZE,
    "qformer_num_heads": [*NOT_A_SIZE, 3],
    "qformer_intermediate_size": NOT_A_SIZE,
    "subject_token": ["", "  ", None, 3, ["person"], "a" * 257, "per\x1b[2Json", "\ud800"],
    "alpha": [0, -1.0, float("nan"), float("inf"), "2", True, [2.0], 1001, 10**4000],
    "mechanism": ["", "nestled", None, ["nested"]],
    "image_encoder": ["", 3, ["a/b", "a/c"], "a" * 257],
    "base_family": ["", None, 1],
    "format_version": [*NOT_A_SIZE, 2],
}


def test_every_setting_is_checked(adapter: NestedAdapter):
    assert set(BAD_SETTINGS) == {name for name in adapter.config if not name.startswith("_")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{i}")
        for name, values in BAD_SETTINGS.items()
        for i, value in enumerate(values)
    ],
)
def test_setting_out_of_range_is_refused(adapter: NestedAdapter, folder: Path, name: str, value: Any):
    config = {key: setting for key, setting in adapter.config.items() if not key.startswith("_")}
    with pytest.raises(NestedAdapterError, match=name):
        NestedAdapter(**{**config, name: value})
    edit_config(folder, lambda config: config.update({name: value}))
    with pytest.raises(AdapterLoadError, match=f"{name}|not valid JSON"):  # JSON has no NaN
        NestedAdapter.from_pretrained(folder, torch_dtype=torch.float16)
    assert torch.get_default_dtype() == torch.float32  # which diffusers changes while it builds a model


@pytest.mark.parametrize("name", ["layers", "token_dim", "image_feature_dim"])
def test_missing_setting_is_refused(folder: Path, name: str):
    edit_config(folder, lambda config: config.pop(name))
    with pytest.raises(AdapterLoadError, match=name):
        NestedAdapter.from_pretrained(folder)


def test_setting_that_was_left_at_its_default_may_be_missing(folder: Path, adapter: NestedAdapter):
    edit_config(folder, lambda config: [config.pop(name) for name in ("alpha", "subject_token", "mechanism")])
    assert NestedAdapter.from_pretrained(folder).config["alpha"] == 2.0
