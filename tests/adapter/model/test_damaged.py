"""Damaged weights and folders that hold no whole adapter are refused, and so is what loading cannot be asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapter_files import LAYER, WEIGHTS, edit_config, edit_weights, shards_of
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.errors import AdapterLoadError
from tiny import TOKEN_DIM, tiny_adapter

KEY = f"projections.{LAYER}.key.weight"
ONE_NAN = torch.zeros(16, TOKEN_DIM)
ONE_NAN[3, 5] = float("nan")
ONE_INF = torch.zeros(16, TOKEN_DIM)
ONE_INF[15, 0] = float("-inf")
# What is done to the tensors of the file, and what the message must name.
DAMAGED = {
    "missing tensor": (lambda w: w.pop(KEY), KEY),
    "whole numbers": (lambda w: w.update({KEY: torch.zeros(16, TOKEN_DIM, dtype=torch.int32)}), "I32"),
    "fp8": (lambda w: w.update({KEY: torch.zeros(16, TOKEN_DIM).to(torch.float8_e4m3fn)}), "F8_E4M3"),
    "complex": (lambda w: w.update({KEY: torch.zeros(16, TOKEN_DIM, dtype=torch.complex64)}), "C64"),
    "missing query": (lambda w: w.pop("encoder.queries"), "encoder.queries"),
    "extra tensor": (lambda w: w.update({"projections.extra": torch.zeros(2)}), "projections.extra"),
    "wrong shape": (lambda w: w.update({KEY: torch.zeros(8, TOKEN_DIM)}), r"\(8, 12\).*\(16, 12\)"),
    "transposed": (lambda w: w.update({KEY: torch.zeros(TOKEN_DIM, 16)}), r"\(12, 16\).*\(16, 12\)"),
    "other rank": (lambda w: w.update({KEY: torch.zeros(16 * TOKEN_DIM)}), r"\(192,\).*\(16, 12\)"),
    "NaN": (lambda w: w.update({KEY: ONE_NAN}), KEY),
    "infinite": (lambda w: w.update({KEY: ONE_INF}), KEY),
    "nothing": (lambda w: w.clear(), "81"),
    "another model": (lambda w: (w.clear(), w.update({"weight": torch.zeros(2)})), "81"),
}


@pytest.mark.parametrize(("edit", "named"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_weights_are_refused(folder: Path, edit: Any, named: str):
    edit_weights(folder, edit)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        NestedAdapter.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_weights_of_another_adapter_are_refused(folder: Path):
    tiny_adapter(num_queries=6).save_pretrained(folder.parent / "other")
    (folder.parent / "other" / WEIGHTS).replace(folder / WEIGHTS)
    with pytest.raises(AdapterLoadError, match=r"encoder\.queries.*\(1, 6, 8\).*\(1, 4, 8\)"):
        NestedAdapter.from_pretrained(folder)


def test_weights_beyond_the_range_of_the_type_are_refused(folder: Path):
    edit_weights(folder, lambda w: w.update({KEY: torch.full((16, TOKEN_DIM), 1e5)}))
    NestedAdapter.from_pretrained(folder)
    with pytest.raises(AdapterLoadError, match="float16"):
        NestedAdapter.from_pretrained(folder, torch_dtype=torch.float16)


def test_shard_that_lacks_a_tensor_of_the_index_is_refused(tmp_path: Path, adapter: NestedAdapter):
    adapter.save_pretrained(tmp_path, max_shard_size="4KB")
    shard = shards_of(tmp_path)[-1]
    weights = load_file(shard)
    lost, _ = weights.popitem()
    save_file(weights, shard, metadata={"format": "pt"})
    with pytest.raises(AdapterLoadError, match=lost):
        NestedAdapter.from_pretrained(tmp_path)


def cut_short(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-50])


# What is done to the folder, and what the message must name.
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
    "weights cut short": (cut_short, WEIGHTS),
    "weights that are something else": (lambda folder: (folder / WEIGHTS).write_bytes(b"hello"), WEIGHTS),
    "only pickled weights": (
        lambda folder: (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin"),
        WEIGHTS,
    ),
    "config that is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "config that is a list": (lambda folder: (folder / "config.json").write_text("[]"), "NestedAdapter"),
    "config of no class": (
        lambda folder: edit_config(folder, lambda config: config.pop("_class_name")),
        "NestedAdapter",
    ),
    "config of another class": (
        lambda folder: edit_config(folder, lambda config: config.update(_class_name="UNet2DConditionModel")),
        "UNet2DConditionModel",
    ),
    "newer format": (
        lambda folder: edit_config(folder, lambda config: config.update(format_version=2, layers="elsewhere")),
        r"version 2\b.*up to 1",
    ),
}


@pytest.mark.parametrize(("damage", "named"), BROKEN.values(), ids=BROKEN)
def test_folder_that_holds_no_whole_adapter_is_refused(folder: Path, damage: Any, named: str):
    damage(folder)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        NestedAdapter.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_missing_shard_is_refused(tmp_path: Path, adapter: NestedAdapter):
    adapter.save_pretrained(tmp_path, max_shard_size="4KB")
    shards_of(tmp_path)[0].unlink()
    with pytest.raises(AdapterLoadError, match=r"00001-of-0000\d"):
        NestedAdapter.from_pretrained(tmp_path)


def test_missing_variant_is_refused(folder: Path):
    with pytest.raises(AdapterLoadError, match="fp16"):
        NestedAdapter.from_pretrained(folder, variant="fp16")


def test_name_that_is_nowhere(tmp_path: Path):
    """A failed download is an OSError, as it is for diffusers' models, and one of our errors."""
    for kind in (OSError, AdapterLoadError):
        with pytest.raises(kind, match=r"nobody/nothing.*local_files_only"):
            NestedAdapter.from_pretrained("nobody/nothing", cache_dir=tmp_path, local_files_only=True)


def test_proxies_are_not_ignored(folder: Path):
    with pytest.raises(AdapterLoadError, match="HTTPS_PROXY"):
        NestedAdapter.from_pretrained(folder, proxies={"https": "http://127.0.0.1:1"})


@pytest.mark.parametrize("dtype", ["auto", "float16", "cpu", torch.int8, torch.float8_e4m3fn, 3], ids=str)
def test_what_is_no_type_of_weights_is_refused(folder: Path, dtype: Any):
    with pytest.raises(AdapterLoadError, match=r"torch_dtype.*torch\.float32"):
        NestedAdapter.from_pretrained(folder, torch_dtype=dtype)


def test_a_file_by_its_name_and_by_its_variant(folder: Path):
    with pytest.raises(AdapterLoadError, match=r"weight_name.*'fp16'.*leave out variant"):
        NestedAdapter.from_pretrained(folder, weight_name=WEIGHTS, variant="fp16")
