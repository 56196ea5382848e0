"""Stable Diffusion 1.5 and 2.1 (arXiv 2112.10752): one text encoder.

They are one family because they share pipelines and layers. The width of the prompt embeddings, 768 or 1024, tells
their adapters apart.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Backbone, BaseModel, Transformers

_TRANSFORMERS = (
    Transformers("down_blocks.0", count=2, depth=1, width=320),
    Transformers("down_blocks.1", count=2, depth=1, width=640),
    Transformers("down_blocks.2", count=2, depth=1, width=1280),
    Transformers("up_blocks.1", count=3, depth=1, width=1280),
    Transformers("up_blocks.2", count=3, depth=1, width=640),
    Transformers("up_blocks.3", count=3, depth=1, width=320),
    Transformers("mid_block", count=1, depth=1, width=1280),
)

# What other UNets of this class embed besides the prompt: sizes, images, noise levels, classes
_EMBEDDINGS = ("addition_embed_type", "class_embed_type", "num_class_embeds")


def _is_config_of(config: Mapping[str, Any]) -> bool:
    # UNets for video and sound have no such setting; an IP-Adapter changes it
    is_like = config.get("encoder_hid_dim_type", "lacks it") in (None, "ip_image_proj")
    return is_like and all(config.get(name) is None for name in _EMBEDDINGS)


def _conditions(pooled: Tensor, frames: Tensor) -> None:
    return None


SD15 = Backbone(
    name="sd15",
    title="Stable Diffusion 1.5 and 2.1",
    is_config_of=_is_config_of,
    pipelines=(
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionPAGPipeline",
        "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionPAGInpaintPipeline",
        "StableDiffusionControlNetPAGPipeline",
        "StableDiffusionControlNetPAGInpaintPipeline",
        "AnimateDiffPipeline",
    ),
    tokenizers=("tokenizer",),
    prompts=("prompt",),
    text_encoders=("text_encoder",),
    base_models=(
        BaseModel("Stable Diffusion 1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5", 768, _TRANSFORMERS),
        BaseModel("Stable Diffusion 2.1", None, 1024, _TRANSFORMERS),
    ),
    conditions=_conditions,
)
