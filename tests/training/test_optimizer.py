"""The optimiser: what it needs, how much of it there is, and that a run keeps it."""

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from diffusers_nested import NestedAdapterError
from diffusers_nested.errors import DependencyError
from diffusers_nested.training import TrainingConfig
from diffusers_nested.training import optimizer as module
from diffusers_nested.training.optimizer import check_optimizer, make_optimizer, optimizer_bytes
from diffusers_nested.training.resume import check_same_run

CPU = torch.device("cpu")


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig("run", use_8bit_adam=True, adam_beta1=0.8, adam_epsilon=1e-6, learning_rate=2e-3)


def test_eight_bits_need_cuda_before_anything_else(train, settings):
    run = settings(use_8bit_adam=True)
    with pytest.raises(NestedAdapterError, match="use_8bit_adam needs a GPU with CUDA"):
        train(run)
    assert not run.folder.exists()


def test_eight_bits_need_their_package(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install bitsandbytes"):
        check_optimizer(config)
    check_optimizer(replace(config, use_8bit_adam=False))
    monkeypatch.setattr(module, "find_spec", lambda name: ModuleSpec(name, None))
    check_optimizer(config)


def test_settings_reach_the_optimiser(config, monkeypatch):
    """bitsandbytes' class has the keywords of torch's."""
    found = ModuleType("bitsandbytes.optim")
    found.AdamW8bit = torch.optim.AdamW
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", found)
    weight = torch.nn.Parameter(torch.ones(2))
    for one, fused in ((config, None), (replace(config, use_8bit_adam=False), True)):
        (group,) = make_optimizer([weight], one, CPU).param_groups
        assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (2e-3, (0.8, 0.999), 1e-6, 1e-2)
        assert group["fused"] is fused
    (group,) = make_optimizer([weight], one, torch.device("meta")).param_groups
    assert not group["fused"]


def test_bytes_of_the_moments(config):
    """Two numbers for each weight: 32 bits, or 8 and a scale of 32 for each 256; small tensors keep 32."""
    whole = optimizer_bytes([5000, 4096, 4095], replace(config, use_8bit_adam=False))
    assert whole == 2 * 4 * (5000 + 4096 + 4095)
    assert optimizer_bytes([5000, 4096, 4095], config) == 2 * (5000 + 20 * 4 + 4096 + 16 * 4 + 4095 * 4)


def test_a_run_keeps_its_optimiser(tmp_path):
    before = {"mixed_precision": "no", "use_8bit_adam": False}
    with pytest.raises(NestedAdapterError, match="use_8bit_adam was False, now True"):
        check_same_run(tmp_path, before, {**before, "use_8bit_adam": True})


def test_a_checkpoint_without_a_newer_setting_has_its_default(tmp_path):
    now = {"mixed_precision": "no", "use_8bit_adam": False}
    names = {one: getattr(TrainingConfig, one) for one in TrainingConfig.__dataclass_fields__ if one != "output_dir"}
    given = {**names, **now}
    assert not check_same_run(tmp_path, {**given, "validation_prompts": ()}, given)
    del names["use_8bit_adam"]
    with pytest.raises(NestedAdapterError, match="use_8bit_adam was False, now True"):
        check_same_run(tmp_path, names, {**given, "use_8bit_adam": True})
