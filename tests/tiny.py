"""A UNet of SDXL's kind and an adapter for it, real classes at a size that a test can afford."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from diffusers_nested.adapter import NestedAdapter

TOKEN_DIM, FEATURES = 12, 10  # widths of prompt embeddings, and of image features


def tiny_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """Text and size embedding as in SDXL, cross-attention at both levels and in the middle."""
    settings: dict[str, Any] = {
        "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "attention_head_dim": (2, 4),  # heads, in spite of the name
        "transformer_layers_per_block": (1, 2),
        "cross_attention_dim": TOKEN_DIM,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 + 6 * 4,
    }
    return _seeded(seed, lambda: UNet2DConditionModel(**{**settings, **changes})).eval()


def tiny_adapter(unet: UNet2DConditionModel | None = None, seed: int = 1, **changes: Any) -> NestedAdapter:
    """An adapter for the UNet, by default for ``tiny_unet()``."""
    settings: dict[str, Any] = {
        "image_feature_dim": FEATURES,
        "num_queries": 4,
        "qformer_hidden_size": 8,
        "qformer_num_layers": 2,
        "qformer_num_heads": 2,
        "qformer_intermediate_size": 16,
        "image_encoder": None,
    }
    unet = tiny_unet() if unet is None else unet
    return _seeded(seed, lambda: NestedAdapter.from_unet(unet, **{**settings, **changes})).eval()


def _seeded(seed: int, make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()
