"""The UNet of Stable Diffusion 1.5 in its true configuration; build it on the meta device, where it takes no memory."""

from typing import Any

from diffusers import UNet2DConditionModel


def sd15_unet(**changes: Any) -> UNet2DConditionModel:
    """The UNet of stable-diffusion-v1-5; that of 2.1 has cross_attention_dim=1024 and other heads."""
    settings: dict[str, Any] = {
        "sample_size": 64,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    }
    return UNet2DConditionModel(**{**settings, **changes})
