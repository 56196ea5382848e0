"""UNets that an adapter fits, and those of other families and other layers, which are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from adapter_files import snapshot
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.errors import AdapterLoadError, NestedAdapterError
from tiny import FEATURES, TOKEN_DIM, tiny_adapter, tiny_unet

OTHER_FAMILIES = {
    "Kolors": lambda: tiny_unet(encoder_hid_dim=6, encoder_hid_dim_type="text_proj"),
    "no UNet": lambda: torch.nn.Linear(2, 2),
    "SDXL without cross-attention": lambda: tiny_unet(
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
    ),
}


@pytest.mark.parametrize("make", OTHER_FAMILIES.values(), ids=OTHER_FAMILIES)
def test_unet_of_another_family_is_refused(adapter: NestedAdapter, make: Callable[[], Any]):
    other = make()
    with pytest.raises(AdapterLoadError, match="family"):
        adapter.check_fits(other)
    with pytest.raises(NestedAdapterError, match="family"):
        NestedAdapter.from_unet(other, image_feature_dim=FEATURES)


def test_adapter_of_another_family_is_refused(unet: UNet2DConditionModel):
    with pytest.raises(AdapterLoadError, match=r"'sd3'.*'sdxl'"):
        NestedAdapter(**{**tiny_adapter(unet).config, "base_family": "sd3"}).check_fits(unet)
    with pytest.raises(NestedAdapterError, match=r"base_family is 'sd3'.*'sdxl'"):
        tiny_adapter(unet, base_family="sd3")


# UNets of the same family that the adapter does not fit, and what the message must say.
OTHER_UNETS = {
    "other widths": (
        lambda: tiny_unet(block_out_channels=(8, 32)),
        r"down_blocks\.1\.\S+ has width 16 in the adapter, 32 in the UNet",
    ),
    "more layers": (
        lambda: tiny_unet(layers_per_block=2),
        r"11 layers, the UNet 17.*down_blocks\.0\.attentions\.1\.\S+ has width None in the adapter, 8",
    ),
    "fewer layers": (
        lambda: tiny_unet(transformer_layers_per_block=1),
        r"11 layers, the UNet 7.*transformer_blocks\.1\.attn2 has width 16 in the adapter, None",
    ),
    "as many layers elsewhere": (
        lambda: tiny_unet(mid_block_type=None, layers_per_block=1, transformer_layers_per_block=(1, 2)),
        r"mid_block\S+ has width 16 in the adapter, None in the UNet",
    ),
    "other prompt embeddings": (lambda: tiny_unet(cross_attention_dim=TOKEN_DIM + 2), "12.*14"),
}


@pytest.mark.parametrize(("make", "named"), OTHER_UNETS.values(), ids=OTHER_UNETS)
def test_unet_of_other_layers_is_refused(adapter: NestedAdapter, make: Callable[[], Any], named: str):
    other = make()
    before = snapshot(other)
    with pytest.raises(AdapterLoadError, match=named):
        adapter.check_fits(other)
    assert snapshot(other) == before


def test_fits_the_unet_it_is_made_for_and_others_like_it(adapter: NestedAdapter, folder: Path):
    for unet in (tiny_unet(), tiny_unet(seed=9), tiny_unet(in_channels=9), tiny_unet().half()):
        before = snapshot(unet)
        adapter.check_fits(unet)
        NestedAdapter.from_pretrained(folder).check_fits(unet)
        assert snapshot(unet) == before
    adapter.check_fits(torch.compile(tiny_unet(), backend="eager"))
