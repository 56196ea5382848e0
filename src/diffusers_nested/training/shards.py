"""An adapter spread over all processes by torch's fully_shard (FSDP2); the frozen models stay whole in each.

A spread tensor is a DTensor, of which each process has a part. The functions here leave other tensors as they are, and
import nothing for them.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter import NestedAdapter
from ..environment.engines import frees_after_forward

_LARGE = 2**16  # weights of a layer that is exchanged on its own


def shard(adapter: NestedAdapter, device: torch.device) -> NestedAdapter:
    """A copy of an adapter on the device, with its weights spread; those of the first process."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    copy: Any = deepcopy(adapter)
    copy.to(device)
    for tensor in (*copy.parameters(), *copy.buffers()):
        distributed.broadcast(tensor.detach(), 0)
    mesh, frees = init_device_mesh(device.type, (distributed.get_world_size(),)), frees_after_forward()
    for module in copy.modules():
        if isinstance(module, nn.Linear) and module.weight.numel() >= _LARGE:
            fully_shard(module, mesh=mesh, reshard_after_forward=frees)
    fully_shard(copy, mesh=mesh, reshard_after_forward=frees)
    return copy


def is_spread(tensor: Tensor) -> bool:
    """Whether each process has a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def own_part(tensor: Any) -> Tensor:
    """What this process has of a tensor, in the same memory."""
    return tensor.detach().to_local() if is_spread(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """A tensor put together; all processes must ask for it."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def joined(part: Tensor, like: Any) -> Tensor:
    """A tensor put together from the parts that the processes have of it, as they have of another."""
    if not is_spread(like):
        return part
    from torch.distributed.tensor import DTensor

    return whole(DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()))


def spread(tensor: Tensor, like: Any) -> Tensor:
    """A whole tensor spread as another one of its shape is; what is of another shape, such as a count, stays whole."""
    if not is_spread(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def mapped(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested dicts and lists with all tensors changed."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {name: mapped(part, change) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(mapped(part, change) for part in state)
    return state
