"""Turns a user's scale, one number or numbers by block, into the scale of every layer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from ..errors import ScaleError

_ATTENTION = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+\.")
_PARTS = ("down", "mid", "up")
_LARGEST = torch.finfo(torch.float32).max  # above it, a dial would be infinite


def check_scale(value: Any) -> float:
    """Return the value as a float.

    Raises:
        ScaleError: It is not a finite number of at least 0.
    """
    number = value.item() if isinstance(value, np.generic) else value  # the bound might be infinite in numpy's type
    is_number = issubclass(type(number), Real) and type(number) is not bool
    if not is_number or not 0 <= number <= _LARGEST:
        raise ScaleError(
            f"A scale must be a finite number of at least 0, got {value!r}. 0 is off, 1 as trained; with nested "
            "attention, up to about 4 stresses the subject more."
        )
    return float(value)


def expand_scale(scale: Any, paths: Iterable[str]) -> dict[str, float]:
    """The scale of every layer.

    Args:
        scale: One number for all layers, or a dict by block as in ``set_ip_adapter_scale``:
            ``{"down": {"block_2": [0.0, 1.0]}, "mid": 1.0, "up": 0.5}``. A list has one number per attention of
            the block, or one for all. Blocks that the dict does not name are off.
        paths: The layers' paths.

    Raises:
        ScaleError: A number is out of range, this UNet has no such block, or a list has the wrong length.
    """
    paths = list(paths)
    if not isinstance(scale, Mapping):
        return dict.fromkeys(paths, check_scale(scale))
    result = dict.fromkeys(paths, 0.0)
    for prefix, value in _by_block(scale):
        if not any(path.startswith(prefix) for path in paths):
            known = sorted({path[: path.index(".attentions.")] for path in paths if _ATTENTION.match(path)})
            raise ScaleError(f"No layer lies in {prefix.rstrip('.')!r}. Blocks of this UNet: {', '.join(known)}.")
        for part, number in _by_attention(prefix, value, paths):
            result.update((path, number) for path in paths if path.startswith(part))
    return result


def _by_block(scale: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    """Path prefixes, each with its value in the dict."""
    for part, blocks in scale.items():
        if part not in _PARTS:
            raise ScaleError(f"Unknown part {part!r} of a UNet; expected one of {', '.join(_PARTS)}.")
        if part == "mid":
            yield "mid_block.", blocks
        elif not isinstance(blocks, Mapping):
            yield f"{part}_blocks.", check_scale(blocks)
        else:
            if not blocks:
                raise ScaleError(
                    f"The scale of {part!r} is an empty dict. Pass a number, 0 for off, or name its blocks."
                )
            for name, value in blocks.items():
                number = re.fullmatch(r"block_(\d+)", str(name))
                if number is None:
                    raise ScaleError(f"Unknown block {name!r}; expected 'block_0', 'block_1', …")
                yield f"{part}_blocks.{number.group(1)}.", value


def _by_attention(prefix: str, value: Any, paths: Sequence[str]) -> Iterable[tuple[str, float]]:
    if not isinstance(value, list | tuple):
        return [(prefix, check_scale(value))]
    found = (_ATTENTION.match(path) for path in paths if path.startswith(prefix))
    attentions = sorted({match.group(0) for match in found if match}, key=lambda name: (len(name), name))
    if len(value) not in (1, len(attentions)):
        raise ScaleError(
            f"Expected {len(attentions)} scales for {prefix.rstrip('.')!r}, one per attention, or 1 for all; got "
            f"{len(value)}: {value!r}."
        )
    values = value if len(value) == len(attentions) else value * len(attentions)
    return [(name, check_scale(single)) for name, single in zip(attentions, values, strict=True)]
