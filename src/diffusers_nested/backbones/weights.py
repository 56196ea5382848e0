"""A layer's own key and value weights, wherever and however the UNet keeps them."""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from ..compat import has_accelerate_hook
from ..errors import NestedAdapterError

_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def key_value_weights(layer: Attention, path: str) -> tuple[Tensor, Tensor]:
    """W_k and W_v of a layer, (inner width, width of the prompt embeddings) each.

    Of a layer with LoRA it is the weight below it. Weights that accelerate has offloaded are brought to the CPU.

    Args:
        layer: A cross-attention layer.
        path: Its path in the UNet, for messages.

    Raises:
        NestedAdapterError: They are quantised, merged with LoRA, or nowhere to be found.
    """
    shape = (layer.inner_dim, layer.cross_attention_dim)
    return _weight(layer.to_k, f"{path}.to_k", shape), _weight(layer.to_v, f"{path}.to_v", shape)


def _weight(module: Any, name: str, shape: tuple[int, int]) -> Tensor:
    if getattr(module, "merged", False):
        raise NestedAdapterError(
            f"{name} of the UNet has LoRA weights merged into its own, expected the base model's. Call "
            "pipe.unfuse_lora() first."
        )
    weight = _present(getattr(module, "base_layer", module))  # peft's layers wrap the original one
    kind = type(weight).__name__
    if type(weight) not in (Tensor, nn.Parameter) or weight.dtype not in _PLAIN or tuple(weight.shape) != shape:
        of = f" of {weight.dtype} and shape {tuple(weight.shape)}" if isinstance(weight, Tensor) else ""
        raise NestedAdapterError(
            f"{name} of the UNet has a {kind}{of} as its weight, expected a plain one of float16, bfloat16 or float32 "
            f"and shape {shape}: a low-rank adapter adds to the base model's own weights. Load the adapter before the "
            "UNet is quantised, or use a UNet that is not."
        )
    if weight.is_meta:
        raise NestedAdapterError(
            f"{name} of the UNet is on the meta device and accelerate does not keep it elsewhere. Load the UNet's "
            "weights first."
        )
    return weight.detach()


def _present(module: nn.Module) -> Any:
    weight = getattr(module, "weight", None)
    if weight is None or not weight.is_meta or not has_accelerate_hook(module):
        return weight
    from accelerate.utils import align_module_device  # what has offloaded it is installed

    with align_module_device(module, torch.device("cpu")):
        return module.get_parameter("weight").detach().clone()
