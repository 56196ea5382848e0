"""The dial, and the scales of all layers from what a user gives."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diffusers_nested.backbones import cross_attention_layers
from diffusers_nested.errors import ScaleError
from diffusers_nested.injection import check_scale, expand_scale
from tiny import tiny_unet

PATHS = list(cross_attention_layers(tiny_unet()))
# SDXL's own: blocks with cross-attention, their attentions, and the transformer blocks of each
SDXL_PATHS = [
    f"{block}.attentions.{attention}.transformer_blocks.{i}.attn2"
    for block, attentions, depth in [
        ("down_blocks.1", 2, 2),
        ("down_blocks.2", 2, 10),
        ("mid_block", 1, 10),
        ("up_blocks.0", 3, 10),
        ("up_blocks.1", 3, 2),
    ]
    for attention in range(attentions)
    for i in range(depth)
]


def by_attention(scales: dict[str, float]) -> dict[str, float]:
    """Scales by attention that are not off, after a check that its transformer blocks agree."""
    found: dict[str, set[float]] = {}
    for path, value in scales.items():
        found.setdefault(path.split(".transformer_blocks.")[0], set()).add(value)
    assert all(len(values) == 1 for values in found.values())
    return {name: value for name, (value,) in found.items() if value}


@pytest.mark.parametrize("value", [0, 0.0, 1, 0.3, 4, np.float32(0.5), np.float64(2), np.int64(3)])
def test_numbers_are_scales(value: Any):
    result = check_scale(value)
    assert type(result) is float
    assert result == float(value)


NOT_SCALES = {
    "NaN": math.nan,
    "infinity": math.inf,
    "an infinity of numpy's": np.float16("inf"),
    "minus infinity": -math.inf,
    "negative": -0.1,
    "negative integer": -1,
    "beyond float32": 1e39,
    "beyond all floats": 10**400,
    "True": True,
    "False": False,
    "numpy's True": np.True_,
    "string": "1.0",
    "None": None,
    "complex": 1j,
    "tensor": torch.tensor(1.0),
}
PLACES = {
    "everywhere": lambda value: value,
    "in the middle": lambda value: {"mid": value},
    "in the middle, in a list": lambda value: {"mid": [value]},
    "in a part": lambda value: {"up": value},
    "in a block": lambda value: {"up": {"block_0": value}},
    "in an attention": lambda value: {"up": {"block_0": [1.0, value]}},
}


@pytest.mark.parametrize("value", [*NOT_SCALES.values(), [1.0], {"mid": 1.0}])
def test_what_is_no_number_is_refused(value: Any):
    with pytest.raises(ScaleError, match=re.escape(repr(value))):
        check_scale(value)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_it_is_refused_wherever_it_stands(place: Callable[[Any], Any]):
    with pytest.raises(ScaleError, match=re.escape("-0.1")):
        expand_scale(place(-0.1), PATHS)


@pytest.mark.parametrize("paths", [PATHS, SDXL_PATHS], ids=["tiny", "SDXL"])
def test_one_number_for_all(paths: list[str]):
    assert expand_scale(0.7, paths) == dict.fromkeys(paths, 0.7)
    assert expand_scale(2, iter(paths)) == dict.fromkeys(paths, 2.0)


BY_BLOCK: dict[str, tuple[dict, dict[str, float]]] = {
    "nothing": ({}, {}),
    "a part": ({"down": 0.5}, {f"down_blocks.{b}.attentions.{a}": 0.5 for b in (1, 2) for a in (0, 1)}),
    "the middle": ({"mid": 3}, {"mid_block.attentions.0": 3.0}),
    "the middle in a list": ({"mid": [3.0]}, {"mid_block.attentions.0": 3.0}),
    "a block": ({"up": {"block_1": 2.0}}, {f"up_blocks.1.attentions.{a}": 2.0 for a in range(3)}),
    "attentions": (
        {"up": {"block_0": [0.0, 1.0, 0.5]}},
        {"up_blocks.0.attentions.1": 1.0, "up_blocks.0.attentions.2": 0.5},
    ),
    "a tuple": ({"down": {"block_2": (0.25, 0.75)}}, {f"down_blocks.2.attentions.{a}": 0.25 + a / 2 for a in (0, 1)}),
    "one for all attentions": ({"up": {"block_0": [0.4]}}, {f"up_blocks.0.attentions.{a}": 0.4 for a in range(3)}),
    "InstantStyle, layout and style": (
        {"down": {"block_2": [0.0, 1.0]}, "up": {"block_0": [0.0, 1.0, 0.0]}},
        {"down_blocks.2.attentions.1": 1.0, "up_blocks.0.attentions.1": 1.0},
    ),
    "all kinds": (
        {"down": {"block_2": [0.0, 1.0]}, "mid": 1.5, "up": 0.5},
        {
            "down_blocks.2.attentions.1": 1.0,
            "mid_block.attentions.0": 1.5,
            **{f"up_blocks.{b}.attentions.{a}": 0.5 for b in (0, 1) for a in range(3)},
        },
    ),
}


@pytest.mark.parametrize(("scale", "expected"), BY_BLOCK.values(), ids=BY_BLOCK)
def test_scales_by_block(scale: dict, expected: dict[str, float]):
    result = expand_scale(scale, SDXL_PATHS)
    assert list(result) == SDXL_PATHS
    assert by_attention(result) == expected


def test_block_ten_is_not_block_one():
    paths = [f"down_blocks.{block}.attentions.0.transformer_blocks.0.attn2" for block in (1, 10)]
    assert expand_scale({"down": {"block_1": 2.0}}, paths) == {paths[0]: 2.0, paths[1]: 0.0}
    assert expand_scale({"down": {"block_10": 2.0}}, paths) == {paths[0]: 0.0, paths[1]: 2.0}


UNKNOWN = {
    "part": ({"middle": 1.0}, "'middle'.*down, mid, up"),
    "part that is no word": ({0: 1.0}, "0.*down, mid, up"),
    "adapter's name": ({"person": 1.0}, "'person'"),
    "block": ({"down": {"block_7": 1.0}}, r"down_blocks\.7.*down_blocks\.1, down_blocks\.2, mid_block, up_blocks\.0"),
    "block without attention": ({"down": {"block_0": [1.0, 0.0]}}, r"down_blocks\.0"),
    "name of a block": ({"up": {"1": 1.0}}, "'1'.*block_0"),
    "name of a block, longer": ({"up": {"block_1.0": 1.0}}, r"'block_1\.0'"),
    "list for a part": ({"up": [0.0, 1.0]}, "number"),
    "dict for the middle": ({"mid": {"block_0": 1.0}}, "number"),
    "too many attentions": ({"up": {"block_0": [1.0] * 4}}, r"3 scales for 'up_blocks\.0'.*got 4"),
    "too few attentions": ({"up": {"block_0": [1.0, 0.0]}}, r"3 scales for 'up_blocks\.0'.*got 2"),
    "no attentions": ({"up": {"block_0": []}}, r"3 scales for 'up_blocks\.0'.*got 0"),
    "too many in the middle": ({"mid": [1.0, 1.0]}, "1 scales for 'mid_block'.*got 2"),
}


@pytest.mark.parametrize(("scale", "named"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_place_is_refused(scale: dict, named: str):
    with pytest.raises(ScaleError, match=named):
        expand_scale(scale, SDXL_PATHS)


def test_unet_without_a_middle():
    paths = [path for path in SDXL_PATHS if not path.startswith("mid")]
    with pytest.raises(ScaleError, match="mid_block"):
        expand_scale({"mid": 1.0}, paths)
