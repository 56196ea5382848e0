"""A saved adapter is loaded as it was: names of tensors, shards, variants, types and folders."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open

from adapter_files import WEIGHTS, same_bits, shards_of
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.backbones import layer_widths
from tiny import FEATURES, tiny_adapter


@pytest.fixture
def diffusers_log() -> Iterator[list[str]]:
    """Warnings and errors that diffusers logs."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logging.getLogger("diffusers").addHandler(handler)
    yield messages
    logging.getLogger("diffusers").removeHandler(handler)


def test_file_names_tensors_by_the_layers_path(folder: Path, unet: UNet2DConditionModel):
    with safe_open(folder / WEIGHTS, "pt") as file:
        names = set(file.keys())
    of_layers = {f"projections.{path}.{part}.weight" for path in layer_widths(unet) for part in ("key", "value")}
    assert {name for name in names if not name.startswith("encoder.")} == of_layers


SAVED = {
    "plain": ({}, {}),
    "variant": ({"variant": "fp16"}, {"variant": "fp16"}),
    "shards": ({"max_shard_size": "4KB"}, {}),
    "shards of a variant": ({"max_shard_size": "4KB", "variant": "fp16"}, {"variant": "fp16"}),
}


@pytest.mark.parametrize(("saving", "loading"), SAVED.values(), ids=SAVED)
def test_round_trip(tmp_path: Path, saving: dict, loading: dict, diffusers_log: list[str]):
    original = tiny_adapter(subject_token="pet", alpha=None, num_queries=3)
    original.save_pretrained(tmp_path, **saving)
    assert bool(shards_of(tmp_path)) == ("max_shard_size" in saving)
    loaded = NestedAdapter.from_pretrained(tmp_path, **loading)
    assert loaded.state_dict().keys() == original.state_dict().keys()
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in original.state_dict().items())
    public = {name: value for name, value in original.config.items() if not name.startswith("_")}
    assert {name: loaded.config[name] for name in public} == public
    features = torch.randn(2, 5, FEATURES)
    assert same_bits(loaded.encode(features), original.encode(features))
    assert not loaded.training
    assert diffusers_log == []


def test_round_trip_in_half_precision(tmp_path: Path, diffusers_log: list[str]):
    original = tiny_adapter().half()
    original.save_pretrained(tmp_path, variant="fp16")
    options = {"variant": "fp16"}
    loaded = NestedAdapter.from_pretrained(tmp_path, torch_dtype=torch.float16, **options)
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in original.state_dict().items())
    assert loaded.dtype == torch.float16
    wide = NestedAdapter.from_pretrained(tmp_path, **options)  # float32, as diffusers loads its models
    assert all(same_bits(wide.state_dict()[name], x.float()) for name, x in original.state_dict().items())
    assert diffusers_log == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_type_of_the_weights(
    folder: Path,
    adapter: NestedAdapter,
    dtype: torch.dtype,
    diffusers_log: list[str],
):
    loaded = NestedAdapter.from_pretrained(folder, torch_dtype=dtype)
    assert all(same_bits(loaded.state_dict()[name], x.to(dtype)) for name, x in adapter.state_dict().items())
    assert torch.get_default_dtype() == torch.float32
    assert diffusers_log == []


def test_loads_from_a_subfolder_and_from_a_string(folder: Path, adapter: NestedAdapter):
    loaded = NestedAdapter.from_pretrained(str(folder.parent), subfolder="adapter")
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())


def test_saves_what_was_loaded(folder: Path, tmp_path: Path):
    NestedAdapter.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    NestedAdapter.from_pretrained(tmp_path / "again")


def test_what_was_loaded_does_not_depend_on_the_file(folder: Path, adapter: NestedAdapter):
    loaded = NestedAdapter.from_pretrained(folder)
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(bytes((folder / WEIGHTS).stat().st_size))
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())
