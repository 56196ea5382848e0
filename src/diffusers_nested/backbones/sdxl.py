"""Stable Diffusion XL (arXiv 2307.01952): two text encoders, and embeddings of pooled prompt and picture size."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Backbone, BaseModel, Transformers

_TRANSFORMERS = (
    Transformers("down_blocks.1", count=2, depth=2, width=640),
    Transformers("down_blocks.2", count=2, depth=10, width=1280),
    Transformers("up_blocks.0", count=3, depth=10, width=1280),
    Transformers("up_blocks.1", count=3, depth=2, width=640),
    Transformers("mid_block", count=1, depth=10, width=1280),
)


def _is_config_of(config: Mapping[str, Any]) -> bool:
    # Kolors has the same embeddings but projects its prompts
    return config.get("addition_embed_type") == "text_time" and config.get("encoder_hid_dim_type") != "text_proj"


def _conditions(pooled: Tensor, frames: Tensor) -> dict[str, Tensor]:
    return {"text_embeds": pooled, "time_ids": frames}


SDXL = Backbone(
    name="sdxl",
    title="SDXL",
    is_config_of=_is_config_of,
    pipelines=(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
        "StableDiffusionXLControlNetUnionPipeline",
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        "StableDiffusionXLAdapterPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
        "StableDiffusionXLPAGPipeline",
        "StableDiffusionXLPAGImg2ImgPipeline",
        "StableDiffusionXLPAGInpaintPipeline",
        "StableDiffusionXLControlNetPAGPipeline",
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        "AnimateDiffSDXLPipeline",
    ),
    tokenizers=("tokenizer", "tokenizer_2"),
    prompts=("prompt", "prompt_2"),
    text_encoders=("text_encoder", "text_encoder_2"),
    base_models=(BaseModel("SDXL", "stabilityai/stable-diffusion-xl-base-1.0", 2048, _TRANSFORMERS),),
    conditions=_conditions,
    pooled_at=2,
    modular_pipeline="StableDiffusionXLModularPipeline",
)
