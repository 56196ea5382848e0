"""Which layers of a UNet an adapter acts in."""

import torch
from diffusers import UNet2DConditionModel, UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from diffusers_nested.backbones import cross_attention_layers, layer_widths
from tiny import TOKEN_DIM, tiny_unet

# (place of the transformer, its blocks, its width) in tiny_unet()
TRANSFORMERS = [
    ("down_blocks.0.attentions.0", 1, 8),
    ("down_blocks.1.attentions.0", 2, 16),
    ("mid_block.attentions.0", 2, 16),
    ("up_blocks.0.attentions.0", 2, 16),
    ("up_blocks.0.attentions.1", 2, 16),
    ("up_blocks.1.attentions.0", 1, 8),
    ("up_blocks.1.attentions.1", 1, 8),
]
WIDTHS = {
    f"{place}.transformer_blocks.{i}.attn2": width for place, blocks, width in TRANSFORMERS for i in range(blocks)
}


def test_finds_every_cross_attention_layer_and_no_other():
    unet = tiny_unet()
    layers = cross_attention_layers(unet)
    assert set(layers) == set(WIDTHS)
    assert all(unet.get_submodule(path) is layer for path, layer in layers.items())
    assert all(layer.cross_attention_dim == TOKEN_DIM for layer in layers.values())


def test_widths():
    unet = tiny_unet()
    assert layer_widths(unet) == WIDTHS
    for path, width in layer_widths(unet).items():
        assert unet.get_submodule(path).to_v.weight.shape == (width, TOKEN_DIM)


def test_self_attention_in_the_place_of_cross_attention_is_left_out():
    reading, not_reading = (
        BasicTransformerBlock(8, 2, 4, cross_attention_dim=TOKEN_DIM, double_self_attention=double)
        for double in (False, True)
    )
    unet = nn.ModuleDict({"reading": reading, "not_reading": not_reading})
    assert list(cross_attention_layers(unet)) == ["reading.attn2"]


def test_temporal_layers_of_a_video_unet_are_left_out():
    unet = UNetMotionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=TOKEN_DIM,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=4,
    )
    layers = cross_attention_layers(unet)
    assert layers
    assert not [path for path in layers if "motion" in path]
    assert {layer.cross_attention_dim for layer in layers.values()} == {TOKEN_DIM}


def test_a_unet_without_cross_attention_has_none():
    unet = UNet2DConditionModel(
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        layers_per_block=1,
        norm_num_groups=4,
    )
    assert cross_attention_layers(unet) == {}


def test_paths_are_the_same_when_compiled():
    unet = tiny_unet()
    whole = torch.compile(unet, backend="eager")
    assert layer_widths(whole) == WIDTHS
    unet.mid_block = torch.compile(unet.mid_block, backend="eager")
    assert layer_widths(unet) == WIDTHS
