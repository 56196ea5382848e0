"""The optimiser of a run: AdamW, fused where the device has it, or with moments in 8 bits (arXiv 2110.02861)."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import nn

from ..environment.engines import spreads_weights
from ..errors import DependencyError, NestedAdapterError
from .config import TrainingConfig

_FUSED = ("cpu", "cuda", "mps", "xpu")  # devices with a fused AdamW
# of bitsandbytes
_BLOCK = 256  # numbers of a moment that share a scale in float32
_SMALL = 4096  # tensors with fewer weights keep moments in float32


def check_optimizer(config: TrainingConfig) -> None:
    """Raise if the optimiser of these settings cannot work here.

    Raises:
        NestedAdapterError: It needs CUDA, or cannot work on weights that are spread over processes.
        DependencyError: bitsandbytes is not installed.
    """
    _check_spread(config)
    if not config.use_8bit_adam:
        return
    if not torch.cuda.is_available():
        raise NestedAdapterError(
            "use_8bit_adam needs a GPU with CUDA, which torch does not find here. Leave it out to train with AdamW, or "
            "train on such a GPU."
        )
    if find_spec("bitsandbytes") is None:
        raise DependencyError(
            "use_8bit_adam needs the package bitsandbytes, which is not installed. Run: pip install bitsandbytes"
        )


def _check_spread(config: TrainingConfig) -> None:
    if spreads_weights() and (config.use_8bit_adam or config.mixed_precision == "fp16"):
        setting = "use_8bit_adam" if config.use_8bit_adam else "mixed_precision='fp16'"
        remedy = "Leave it out" if config.use_8bit_adam else "Use 'bf16'"
        raise NestedAdapterError(
            f"{setting} does not work with FSDP, which the launcher asks for. {remedy}, or launch without FSDP."
        )


def make_optimizer(
    parameters: Sequence[nn.Parameter], config: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW for these weights, which are on the device already."""
    settings = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "weight_decay": config.adam_weight_decay,
        "eps": config.adam_epsilon,
    }
    if config.use_8bit_adam:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(parameters, **settings)
    return torch.optim.AdamW(parameters, fused=device.type in _FUSED, **settings)


def optimizer_bytes(sizes: Sequence[int], config: TrainingConfig) -> int:
    """Bytes of the two moments of tensors with so many weights each."""
    if not config.use_8bit_adam:
        return 8 * sum(sizes)
    return sum(8 * size if size < _SMALL else 2 * size + 8 * -(-size // _BLOCK) for size in sizes)
