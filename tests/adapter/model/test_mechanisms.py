"""Adapters of every mechanism: the weights that each has, and the norm that it sets."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from adapter_files import LAYER, edit_config, same_bits
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.backbones import layer_widths
from diffusers_nested.errors import AdapterLoadError, NestedAdapterError
from diffusers_nested.mechanisms import MECHANISMS
from tiny import TOKEN_DIM, tiny_adapter, tiny_unet


def test_unknown_mechanism_names_the_known_ones():
    with pytest.raises(NestedAdapterError, match=r"'nestled'.*\bnested\b"):
        tiny_adapter(mechanism="nestled")


def tensors_by_mechanism() -> list[tuple[str, set[str]]]:
    pair = {f"projections.{LAYER}.key.weight", f"projections.{LAYER}.value.weight"}
    value = {f"projections.{LAYER}.value.weight"}
    by_name = {"nested": pair, "decoupled": pair, "located": pair, "simple": set(), "global_value": value}
    by_name["multiple_tokens"] = value
    return [(name, by_name[name]) for name in MECHANISMS]


@pytest.mark.parametrize(("mechanism", "tensors"), tensors_by_mechanism())
def test_weights_of_every_mechanism(tmp_path: Path, unet: UNet2DConditionModel, mechanism: str, tensors: set[str]):
    adapter = tiny_adapter(unet, mechanism=mechanism)
    assert {name for name in adapter.state_dict() if name.startswith(f"projections.{LAYER}.")} == tensors
    for name in tensors:
        own = "to_k" if ".key." in name else "to_v"
        assert same_bits(adapter.state_dict()[name], unet.get_submodule(LAYER).get_submodule(own).weight)
    adapter.save_pretrained(tmp_path)
    loaded = NestedAdapter.from_pretrained(tmp_path)
    loaded.check_fits(unet)
    assert loaded.config["mechanism"] == mechanism
    before, after = adapter.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(same_bits(before[name], after[name]) for name in before)
    tokens = torch.randn(2, 3, TOKEN_DIM)
    read = loaded.project(tokens)
    assert set(read) == set(layer_widths(unet))
    assert all(
        torch.equal(x, y) for path in read for x, y in zip(read[path], adapter.project(tokens)[path], strict=True)
    )
    assert len(read[LAYER]) == max(1, len(tensors))


def test_layers_that_have_no_weights_are_still_compared(tmp_path: Path):
    tiny_adapter(mechanism="simple").save_pretrained(tmp_path)
    adapter = NestedAdapter.from_pretrained(tmp_path)
    with pytest.raises(AdapterLoadError, match="another UNet"):
        adapter.check_fits(tiny_unet(transformer_layers_per_block=(1, 1)))


def test_weights_of_another_mechanism_are_refused(tmp_path: Path):
    tiny_adapter(mechanism="decoupled").save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: config.update(mechanism="simple"))
    with pytest.raises(AdapterLoadError, match="unknown"):
        NestedAdapter.from_pretrained(tmp_path)
    tiny_adapter(mechanism="simple").save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: config.update(mechanism="decoupled"))
    with pytest.raises(AdapterLoadError, match="misses"):
        NestedAdapter.from_pretrained(tmp_path)


@pytest.mark.parametrize("mechanism", ["decoupled", "simple"])
def test_a_norm_that_would_not_be_set_is_refused(tmp_path: Path, mechanism: str):
    assert tiny_adapter(mechanism=mechanism).config["alpha"] is None
    with pytest.raises(NestedAdapterError, match=f"alpha.*{mechanism}"):
        tiny_adapter(mechanism=mechanism, alpha=2.0)
    tiny_adapter(mechanism=mechanism).save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: config.pop("alpha"))
    with pytest.raises(AdapterLoadError, match="alpha"):
        NestedAdapter.from_pretrained(tmp_path)


@pytest.mark.parametrize("mechanism", ["nested", "global_value", "multiple_tokens"])
def test_the_norm_of_what_replaces_a_value(mechanism: str):
    assert tiny_adapter(mechanism=mechanism).config["alpha"] == 2.0
    assert tiny_adapter(mechanism=mechanism, alpha=None).config["alpha"] is None
