"""The dial of every adapter and layer: one number, 0 for off, 1 for the paper's layer, more for its λ."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ScaleError

_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.|(mid)_block\.attentions\.(\d+)\.")
_PARTS = ("down", "mid", "up")


class Dial:
    """The scale of one layer, as a 0-d tensor that is filled in place.

    A compiled UNet reads the tensor, so that a new value needs no new compilation.
    """

    def __init__(self, value: float) -> None:
        self.value = value
        self.tensor: Tensor = torch.tensor(value, dtype=torch.float32)

    def set(self, value: float) -> None:
        """Turn the dial, also in the middle of a call."""
        self.value = value
        self.tensor.fill_(value)

    def to(self, device: torch.device) -> Tensor:
        """The tensor, moved to the device for good."""
        if self.tensor.device != device:
            self.tensor = self.tensor.to(device)
        return self.tensor


def check_scale(value: Any) -> float:
    """The value as a float.

    Raises:
        ScaleError: It is not a finite number of at least 0.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise ScaleError(
            f"A scale must be a finite number of at least 0, got {value!r}. 0 is off, 1 the paper's layer, up to "
            "about 4 stresses the subject more."
        )
    return float(value)


def expand_scale(scale: Any, paths: Iterable[str]) -> dict[str, float]:
    """The scale of every layer.

    Args:
        scale: One number for all layers, or a dict by block as ``set_ip_adapter_scale`` takes it:
            ``{"down": {"block_2": [0.0, 1.0]}, "mid": 1.0, "up": 0.5}``. What it does not name is off.
        paths: The layers' paths.

    Raises:
        ScaleError: A number is out of range, or a name is no block of this UNet.
    """
    paths = list(paths)
    if not isinstance(scale, Mapping):
        return dict.fromkeys(paths, check_scale(scale))
    result = dict.fromkeys(paths, 0.0)
    for prefix, value in _by_prefix(scale):
        hit = [path for path in paths if path.startswith(prefix)]
        if not hit:
            known = sorted({match.group(0).rstrip(".") for path in paths if (match := _BLOCK.match(path))})
            raise ScaleError(f"No layer lies in {prefix.rstrip('.')!r}. Blocks of this UNet: {', '.join(known)}.")
        result.update(dict.fromkeys(hit, value))
    return result


def _by_prefix(scale: Mapping[Any, Any]) -> Iterable[tuple[str, float]]:
    for part, blocks in scale.items():
        if part not in _PARTS:
            raise ScaleError(f"Unknown part {part!r} of a UNet; expected one of {', '.join(_PARTS)}.")
        if part == "mid":
            yield from _by_attention("mid_block.", blocks)
        elif not isinstance(blocks, Mapping):
            yield f"{part}_blocks.", check_scale(blocks)
        else:
            for name, value in blocks.items():
                number = re.fullmatch(r"block_(\d+)", str(name))
                if number is None:
                    raise ScaleError(f"Unknown block {name!r}; expected 'block_0', 'block_1', …")
                yield from _by_attention(f"{part}_blocks.{number.group(1)}.", value)


def _by_attention(prefix: str, value: Any) -> Iterable[tuple[str, float]]:
    if isinstance(value, list | tuple):
        for i, single in enumerate(value):
            yield f"{prefix}attentions.{i}.", check_scale(single)
    else:
        yield prefix, check_scale(value)
