"""Hundreds of damaged adapters: each one either loads or is refused with one of our errors."""

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from mutations import mutate

import tiny_pipeline
from diffusers_nested import NestedAdapter, NestedAdapterError
from ip_adapter_files import repository

CHUNKS, PER_CHUNK = 4, 230


def digest(unet: torch.nn.Module) -> str:
    hashed = hashlib.sha256()
    for name, tensor in unet.state_dict().items():
        hashed.update(name.encode() + tensor.numpy().tobytes())
    return hashed.hexdigest()


def state(pipeline: Any) -> tuple:
    """Everything that loading changes, by identity."""
    unet = pipeline.unet
    processors = tuple((name, id(processor)) for name, processor in unet.attn_processors.items())
    hooks = tuple(len(module._forward_pre_hooks) for module in unet.modules())
    return type(pipeline), processors, hooks, tuple(vars(unet)), tuple(vars(pipeline)), torch.get_default_dtype()


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionXLPipeline:
    parts = tiny_pipeline.components(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D")
    )
    return StableDiffusionXLPipeline(**parts, add_watermarker=False)


@pytest.fixture(scope="module", params=["one file", "shards"])
def folder(request: pytest.FixtureRequest, pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    tiny_pipeline.save_adapter(folder, made := tiny_pipeline.adapter(pipeline.unet, num_queries=2))
    if request.param == "shards":
        (folder / "diffusion_pytorch_model.safetensors").unlink()
        made.save_pretrained(folder, max_shard_size="16KB")
        assert (folder / "diffusion_pytorch_model.safetensors.index.json").is_file()
    return folder


@pytest.fixture
def files(folder: Path):
    """Content of the folder, which is restored afterwards."""
    content = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield content
    for name, data in content.items():
        (folder / name).write_bytes(data)


def load(pipeline: Any, folder: Path) -> NestedAdapter | None:
    """The adapter, or None if it was refused."""
    try:
        pipeline.load_nested_adapter(folder, adapter_name="one")
    except NestedAdapterError as error:
        assert len(str(error)) < 2000
        return None
    return pipeline.nested_adapters["one"]


def is_whole(adapter: NestedAdapter) -> bool:
    tensors = [*adapter.parameters(), *adapter.buffers()]
    return all(not tensor.is_meta and bool(torch.isfinite(tensor).all()) for tensor in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS // 2))
def test_damaged_adapters(pipeline: Any, folder: Path, files: dict[str, bytes], chunk: int):
    weights, before, outcomes = digest(pipeline.unet), state(pipeline), Counter()
    assert load(pipeline, folder) is not None
    pipeline.unload_nested_adapter()
    for case in range(PER_CHUNK):
        rng = random.Random(f"{chunk} {case}")
        what, changed = mutate(files, rng)
        for name, data in changed.items():
            (folder / name).write_bytes(data)
        try:
            adapter = load(pipeline, folder)
        except Exception as error:
            raise AssertionError(f"case {chunk} {case}: {what}") from error
        outcomes["refused" if adapter is None else "loaded"] += 1
        if adapter is not None:
            assert is_whole(adapter), what
            pipeline.unload_nested_adapter()
        assert state(pipeline) == before, what
        for name in changed:
            (folder / name).write_bytes(files[name])
    assert digest(pipeline.unet) == weights
    assert load(pipeline, folder) is not None
    pipeline.unload_nested_adapter()
    assert outcomes["refused"] > PER_CHUNK / 2
    assert outcomes["loaded"] > 0  # some damage is harmless


@pytest.mark.parametrize("name", ["models/base.safetensors", "sdxl_models/plus_small.safetensors"])
def test_damaged_ip_adapters(pipeline: Any, tmp_path: Path, name: str):
    file = repository(tmp_path, pipeline.unet) / name
    content, before, outcomes = file.read_bytes(), state(pipeline), Counter()
    for case in range(40):
        what, changed = mutate({"a.safetensors": content, "b.json": b"{}"}, random.Random(case))
        file.write_bytes(changed.get("a.safetensors", content))
        try:
            pipeline.load_nested_adapter(file, image_encoder_folder=None)
            assert is_whole(pipeline.nested_adapters["person"]), what
            pipeline.unload_nested_adapter()
            outcomes["loaded"] += 1
        except NestedAdapterError as error:
            assert len(str(error)) < 2000
            outcomes["refused"] += 1
        assert state(pipeline) == before, what
    assert min(outcomes["loaded"], outcomes["refused"]) > 5
