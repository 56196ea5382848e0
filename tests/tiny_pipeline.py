"""A real SDXL pipeline at tiny size with random weights, and adapters that act strongly in it."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from diffusers_nested import NestedAdapter
from recipes.miniature.bundled.tokenizer import build_tokenizer

WORDS = [
    "a photo of a person walking a pet in the snow",
    "a watercolor of a child and a king on the beach",
    "blurry low quality",
]
FEATURES = 24  # width of the vision tower


@cache
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(WORDS)


def text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer().bos_token_id,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
    )


def unet(in_channels: int = 4, **changes) -> UNet2DConditionModel:
    """A UNet of SDXL's kind: text and size embedding, cross-attention at both levels and in the middle."""
    settings = {
        "sample_size": 8,
        "in_channels": in_channels,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (32, 64),
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 40,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    }
    return UNet2DConditionModel(**{**settings, **changes})


def components(seed: int = 0, **unet_changes) -> dict:
    """The parts of a tiny SDXL pipeline, in evaluation mode."""
    torch.manual_seed(seed)
    parts = {
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            block_out_channels=(8, 16),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=16,
            force_upcast=False,
        ).eval(),
        "text_encoder": CLIPTextModel(text_config(16)).eval(),
        "text_encoder_2": CLIPTextModelWithProjection(text_config(24)).eval(),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(),
        "unet": unet(**unet_changes).eval(),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
    }
    for encoder in (parts["text_encoder"], parts["text_encoder_2"]):
        torch.nn.init.normal_(encoder.get_input_embeddings().weight, std=0.7)
    return parts


def sd15_components(seed: int = 0, **unet_changes) -> dict:
    """The parts of a tiny Stable Diffusion 1.5: as SDXL's without its second text encoder and its embeddings."""
    without = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")
    settings = {**dict.fromkeys(without), "cross_attention_dim": 16, "use_linear_projection": False, **unet_changes}
    parts = components(seed, **settings)
    kept = {name: part for name, part in parts.items() if not name.endswith("_2")}
    kept["scheduler"] = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    return {**kept, "safety_checker": None, "feature_extractor": None}


FAMILIES = {"sdxl": components, "sd15": sd15_components}


def adapter(unet: UNet2DConditionModel, seed: int = 1, **config) -> NestedAdapter:
    """An adapter for the UNet whose weights are large enough to act."""
    torch.manual_seed(seed)
    settings = {
        "image_feature_dim": FEATURES,
        "num_queries": 5,
        "qformer_hidden_size": 16,
        "qformer_num_layers": 1,
        "qformer_num_heads": 2,
        "qformer_intermediate_size": 32,
        "image_encoder": None,
    }
    made = NestedAdapter.from_unet(unet, **{**settings, **config})
    torch.nn.init.normal_(made.encoder.queries)
    return made.eval()


def image_encoder(seed: int = 2) -> CLIPVisionModelWithProjection:
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=FEATURES,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=16,
    )
    return CLIPVisionModelWithProjection(config).eval()


def image_processor() -> CLIPImageProcessorPil:
    """The preprocessing of ``image_encoder``."""
    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def save_adapter(folder: Path, made: NestedAdapter) -> Path:
    """A published adapter: its weights, an image encoder and a feature extractor."""
    made.save_pretrained(folder)
    image_encoder().save_pretrained(folder / "image_encoder")
    image_processor().save_pretrained(folder / "feature_extractor")
    return folder


def photo(seed: int = 0, size: int = 16) -> Image.Image:
    """A picture of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8))
