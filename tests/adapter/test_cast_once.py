"""Subject tokens under autocast: one copy for all layers, and gradients as with a copy for each."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter
from diffusers_nested.adapter.cast_once import cast_once


class Casts(TorchDispatchMode):
    """Counts casts of tensors of a shape to bfloat16."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self._shape = shape
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        if func is torch.ops.aten._to_copy.default:
            self.count += sum(tuple(x.shape) == self._shape and x.dtype == torch.bfloat16 for x in tree_leaves(out))
        return out


@pytest.fixture
def adapter() -> NestedAdapter:
    return tiny.adapter(tiny.components()["unet"])


def test_all_layers_share_one_copy(adapter):
    tokens = torch.randn(2, 3, 40, requires_grad=True)
    with Casts((2, 3, 40)) as casts, torch.autocast("cpu", torch.bfloat16):
        projected = adapter.project(tokens)
    assert casts.count == 1 and len(projected) > 1
    assert all(x.dtype == torch.bfloat16 for pair in projected.values() for x in pair)
    with Casts((2, 3, 40)) as casts:
        adapter.project(tokens)
    assert not casts.count


def test_outputs_are_those_of_autocast(adapter):
    tokens = torch.randn(2, 3, 40)
    with torch.autocast("cpu", torch.bfloat16):
        for path, (key, value) in adapter.project(tokens).items():
            layer = adapter.projections.get_submodule(path)
            assert torch.equal(key, layer.key(tokens)) and torch.equal(value, layer.value(tokens))


def test_gradients_are_added_up_in_float32():
    tokens = torch.zeros(1, 1, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        read = cast_once(tokens)
        total = 256 * read() + sum(read() for _ in range(64))  # in bfloat16, 256 + 1 is 256
    total.sum().backward()
    assert tokens.grad is not None and tokens.grad.item() == 320


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_stay_with_autocast(dtype):
    tokens = torch.zeros(1, 2, 3, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert cast_once(tokens)() is tokens


def test_without_a_device_nothing_is_cast():
    tokens = torch.zeros(1, 2, 3, device="meta")
    assert cast_once(tokens)() is tokens
