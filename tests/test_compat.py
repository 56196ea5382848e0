"""Each private name of another library does what the package takes it to do."""

from argparse import ArgumentParser
from copy import deepcopy
from hashlib import sha1, sha256
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLAutoBlocks, StableDiffusionXLModularPipeline, StableDiffusionXLPipeline
from huggingface_hub import snapshot_download
from torch import nn

import tiny_pipeline
from accelerate_state import own_accelerator
from diffusers_nested import compat
from hub.steps import published

__all__ = ["own_accelerator"]


def test_a_compiled_module_is_unwrapped():
    linear = nn.Linear(2, 3)
    compiled = torch.compile(linear, backend="eager")
    assert compiled is not linear
    assert compat.uncompiled(compiled) is compat.uncompiled(linear) is linear
    assert compat.uncompiled(None) is None


def test_paths_of_compiled_modules_are_those_of_the_modules():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3)))
    plain = dict(model.named_modules())
    model[0] = torch.compile(model[0], backend="eager")
    assert dict(model.named_modules()).keys() != plain.keys()
    assert compat.named_modules(model) == plain


def test_a_call_of_the_object_itself_goes_before_the_class():
    linear, x = nn.Linear(2, 3), torch.ones(1, 2)
    seen = []
    linear.register_forward_pre_hook(lambda module, args: seen.append("hook"))
    expected = linear(x)
    assert compat.own_call(linear) is None

    def own(*args):
        seen.append("own")
        return compat.class_call(linear)(*args)

    compat.set_own_call(linear, own)
    assert compat.own_call(linear) is own
    assert torch.equal(linear(x), expected)
    assert seen == ["hook", "own", "hook"]
    assert compat.own_call(deepcopy(linear)) is None
    for _ in range(2):
        compat.set_own_call(linear, None)
        assert compat.own_call(linear) is None
    linear.compile(backend="eager")
    assert compat.own_call(linear) is not None


def test_children_by_name():
    model = nn.Sequential(nn.Linear(2, 3))
    assert compat.has_child(model, "0") and not compat.has_child(model, "1")
    assert not compat.has_child(model, "training")


def test_writes_into_a_tensor_are_counted():
    tensor = torch.zeros(2)
    before = compat.writes_into(tensor)
    tensor[0] = 1
    assert compat.writes_into(tensor) != before
    with torch.inference_mode():
        assert compat.writes_into(torch.zeros(2)) is None


@pytest.fixture(scope="module")
def pipeline():
    return StableDiffusionXLPipeline(**tiny_pipeline.components(), add_watermarker=False)


def modular_pipeline():
    made = StableDiffusionXLModularPipeline(StableDiffusionXLAutoBlocks())
    made.update_components(unet=tiny_pipeline.unet())
    return made


def test_pipelines_have_an_execution_device(pipeline):
    assert compat.execution_device(pipeline) == torch.device("cpu")
    assert compat.execution_device(modular_pipeline()) == torch.device("cpu")


def test_pipelines_announce_their_steps(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    assert compat.announced_steps(pipeline) is None
    seen = []
    pipeline(
        "a photo", num_inference_steps=4, denoising_end=0.5, height=16, width=16, output_type="latent",
        callback_on_step_end=lambda pipe, *args: seen.append(compat.announced_steps(pipe)) or {},
    )  # fmt: skip
    assert seen == [2, 2]
    modular = modular_pipeline()
    assert compat.announced_steps(modular) is None
    compat.announce_steps(modular, 3)
    assert compat.announced_steps(modular) == 3


def test_blocks_have_requirements():
    blocks = StableDiffusionXLAutoBlocks()
    block = next(iter(blocks.sub_blocks.values()))
    assert not compat.block_requirements(block)
    compat.set_block_requirements(block, {"packaging": ">=1"})
    assert compat.block_requirements(block) == {"packaging": ">=1"}
    assert {"packaging": ">=1"} in compat.block_requirements(blocks).values()


def test_requests_have_a_timeout():
    assert 0 < compat.request_timeout() < 3600


def test_modules_are_freed_of_accelerate():
    linear = nn.Linear(2, 3)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare(linear)
    compat.free_of_accelerate(accelerator, prepared, linear)
    assert not {"forward", "_original_forward"} & set(vars(linear))
    assert linear(torch.ones(1, 2)).dtype == torch.float32


def test_modes_see_operations():
    class Seen(compat.dispatch_mode()):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += len(compat.leaves((args, {"more": kwargs or {}})))
            return func(*args, **kwargs or {})

    with Seen() as seen:
        torch.ones(2).add(torch.ones(2))
    assert seen.count > 2


def test_tensors_without_content():
    with compat.without_content():
        made = torch.nn.Linear(10**6, 10**6)(torch.ones(10**6))
    first, second = (compat.number_of(x.untyped_storage()) for x in (made, made[1:]))
    assert first == second != compat.number_of(torch.ones(2).untyped_storage())
    assert made.shape == (10**6,) and made.device.type == "cpu"


def test_flags_of_a_command_line():
    parser = ArgumentParser()
    parser.add_argument("--word", "-w")
    parser.add_argument("file")
    assert compat.flags_of(parser) == ["-h", "--help", "--word", "-w"]


def test_snapshots_of_the_cache(hub, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.json").write_bytes(b"{}")
    published(hub, tmp_path / "model", "user/model")
    snapshot = Path(snapshot_download("user/model", cache_dir=tmp_path / "cache"))
    assert compat.snapshots_around(snapshot / "unet") == compat.snapshots_around(snapshot) == [snapshot]
    assert not compat.snapshots_around(snapshot.parent)
    assert not compat.snapshots_around(tmp_path)
    assert any((snapshot / "a.json").resolve().is_relative_to(store) for store in compat.blob_stores(snapshot))


@pytest.mark.parametrize("git", [False, True])
def test_downloads_are_compared_with_the_hash_of_the_hub(tmp_path, git):
    content = b"what the Hub has"
    name = sha1(b"blob %d\0" % len(content) + content).hexdigest() if git else sha256(content).hexdigest()
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a.json").symlink_to(tmp_path / name)
    (tmp_path / "b.json").write_bytes(b"{}")
    assert compat.is_as_downloaded(tmp_path / "a.json")
    assert compat.is_as_downloaded(tmp_path / "b.json")
    (tmp_path / name).write_bytes(b"something else")
    assert not compat.is_as_downloaded(tmp_path / "a.json")
