"""What some pipelines need beside the parts of SDXL: real classes at tiny size, with random weights that act."""

from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    MotionAdapter,
    T2IAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import nn


def controlnet(unet: UNet2DConditionModel) -> dict[str, Any]:
    """A ControlNet for the UNet and for control images of twice its size."""
    torch.manual_seed(11)
    made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8), load_weights_from_unet=False)
    return {"controlnet": _awake(made)}


def controlnet_union(unet: UNet2DConditionModel) -> dict[str, Any]:
    """As ``controlnet``, for several kinds of control images."""
    torch.manual_seed(12)
    width = unet.config.block_out_channels[0]
    settings = {
        **{name: value for name, value in unet.config.items() if name in _SHARED},
        "conditioning_embedding_out_channels": (4, 8),
        "num_trans_channel": width,
        "num_proj_channel": width,
        "num_trans_head": 2,
    }
    return {"controlnet": _awake(ControlNetUnionModel(**settings))}


def t2i_adapter(unet: UNet2DConditionModel) -> dict[str, Any]:
    """A T2I adapter for the UNet's two resolutions."""
    torch.manual_seed(13)
    channels = list(unet.config.block_out_channels)
    return {"adapter": T2IAdapter(channels=channels, num_res_blocks=1, downscale_factor=2).eval()}


def motion_adapter(unet: UNet2DConditionModel) -> dict[str, Any]:
    """Motion modules, and the UNet with them in it."""
    torch.manual_seed(14)
    made = MotionAdapter(
        block_out_channels=unet.config.block_out_channels,
        motion_layers_per_block=unet.config.layers_per_block,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_max_seq_length=4,
    )
    made = _awake(made)
    return {"motion_adapter": made, "unet": UNetMotionModel.from_unet2d(unet, made).eval()}


def pag(unet: UNet2DConditionModel) -> dict[str, Any]:
    """Where perturbed attention guidance acts."""
    return {"pag_applied_layers": ["mid"]}


def controlnet_pag(unet: UNet2DConditionModel) -> dict[str, Any]:
    """A ControlNet, and perturbed attention guidance."""
    return {**controlnet(unet), **pag(unet)}


_SHARED = (
    "in_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "attention_head_dim",
    "use_linear_projection",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)


def _awake(model: nn.Module) -> nn.Module:
    """New ControlNets and motion modules end in layers of zeros, which do nothing: give these weights."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.eval()
