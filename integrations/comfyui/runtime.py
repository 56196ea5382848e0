"""What is asked of ComfyUI itself, which is imported only then, and what stands for a pipeline where there is none."""

# pyright: reportMissingImports=false

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FOLDER = "nested_adapters"  # in ComfyUI's folder of models


class Computer:
    """Where and in which type a model computes; what ``LoadedAdapter`` asks of a pipeline.

    Adapters and vision towers are moved to the device while they compute, and back.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._execution_device = device
        self.unet = _Unet(dtype)


class _Unet:
    """A UNet that is elsewhere, as under offloading: so what computes goes back when it is done."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def parameters(self) -> Iterator[Tensor]:
        yield torch.empty(0, device="meta")


def folders() -> dict[str, Path]:
    """The adapters in ComfyUI's folders for them, by name."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir, FOLDER)))
    found: dict[str, Path] = {}
    for top in folder_paths.get_folder_paths(FOLDER):
        for config in sorted(Path(top).glob("*/config.json")):
            found.setdefault(config.parent.name, config.parent)
    return found


def make_room(modules: Sequence[nn.Module], device: torch.device) -> None:
    """Let ComfyUI free memory on a device for modules that will compute there."""
    from comfy import model_management

    weights = [x for module in {id(one): one for one in modules}.values() for x in module.parameters()]
    # as much again for what they compute
    model_management.free_memory(2 * sum(x.numel() * x.element_size() for x in weights), device)


def stock_attention() -> Callable[..., Tensor]:
    """ComfyUI's attention, as chosen at its start."""
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention


def adapter_dtype() -> torch.dtype:
    """The type in which an adapter is kept: half precision where the device computes in it."""
    from comfy import model_management

    return torch.float16 if model_management.should_use_fp16() else torch.float32


def compute_dtype(model: Any) -> torch.dtype:
    """The type in which a model computes."""
    return model.model.manual_cast_dtype or model.model_dtype()
