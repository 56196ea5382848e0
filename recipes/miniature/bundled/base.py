"""The miniature's text encoders and UNet, trained together as a small SDXL.

Run as ``python -m recipes.miniature.bundled.base RUN_FOLDER`` after the autoencoder. It saves
a complete pipeline under ``RUN_FOLDER / "pipeline"``.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .data import draw_scenes, to_pixels
from .loop import HAS_FAST_BF16, Recipe, fit
from .tokenizer import build_tokenizer, save_words

JOINT = Recipe(steps=3000, lr=1.5e-3, flat=1.0, seed=10)
UNET = Recipe(steps=6500, lr=1.5e-3, warmup=50, flat=0.25, seed=11, ema=0.999)
BATCH, PICTURES, DROPOUT = 32, 120_000, 0.1
TIME_IDS = (32.0, 32.0, 0.0, 0.0, 32.0, 32.0)


class Base(nn.Module):
    """Text encoders and UNet, called with token ids and noisy latents."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(text_config(tokenizer, width=64))
        self.text_encoder_2 = CLIPTextModelWithProjection(text_config(tokenizer, width=96))
        self.unet = build_unet()
        for encoder in (self.text_encoder, self.text_encoder_2):
            nn.init.normal_(encoder.get_input_embeddings().weight, std=0.7)

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate states of both encoders (B, 77, 160) and the pooled embedding (B, 96), as SDXL's."""
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids, output_hidden_states=True)
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds


def text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    """A three-layer CLIP text encoder for the tokenizer."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=96,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_unet() -> UNet2DConditionModel:
    """SDXL's UNet in small: two levels, cross-attention at both, text and size embedding."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        cross_attention_dim=160,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=96 + 6 * 8,
    )


def build_scheduler() -> DDIMScheduler:
    """v-prediction down to pure noise, so that dark and bright pictures keep their range."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Latent means of pictures (N, 3, 32, 32) -> (N, 4, 16, 16)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=HAS_FAST_BF16):
        parts = [vae.encode(part).latent_dist.mode().float() for part in pixels.split(256)]
    return torch.cat(parts).half()


def _cached_latents(path: Path, vae: AutoencoderKL, pictures: np.ndarray) -> Tensor:
    if not path.exists():
        torch.save(encode_pictures(vae, to_pixels(pictures)), path)
    return torch.load(path, weights_only=True)


def spread_timesteps(uniform: Tensor, count: int) -> Tensor:
    """One timestep of 0..count-1 from each of as many equal parts as there are numbers in 0..1."""
    spread = (torch.arange(len(uniform)) + uniform) / len(uniform)
    return (spread * count).long().clamp(max=count - 1)  # the last sum may have been rounded up to 1


def noisy_batch(latents: Tensor, scheduler: DDIMScheduler, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, timesteps spread evenly over the batch, and the velocity to predict."""
    size = len(latents)
    noise = torch.randn(latents.shape, generator=generator)
    steps = spread_timesteps(torch.rand(size, generator=generator), scheduler.config["num_train_timesteps"])
    noisy = scheduler.add_noise(latents, noise, steps)
    return noisy, steps, scheduler.get_velocity(latents, noise, steps)


def train(folder: Path) -> StableDiffusionXLPipeline:
    """Train text encoders and UNet together, then the UNet alone; save the pipeline."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").requires_grad_(False)
    _, captions, pictures = draw_scenes(PICTURES, seed=2)
    latents = _cached_latents(folder / "latents.pt", vae, pictures)
    tokenizer = build_tokenizer(captions)
    ids = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
    scheduler = build_scheduler()
    torch.manual_seed(JOINT.seed)
    base = Base(tokenizer)
    base.unet.set_attn_processor(AttnProcessor())  # explicit softmax: faster than SDPA on a CPU, in training

    def loss_of(model: Base, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        noisy, steps, target = noisy_batch(latents[chosen].float(), scheduler, generator)
        words, pooled = model.encode(ids[chosen])
        kept = (torch.rand(BATCH, generator=generator) >= DROPOUT).to(words.dtype)
        added = {"text_embeds": pooled * kept[:, None], "time_ids": torch.tensor(TIME_IDS).expand(BATCH, 6)}
        out = model.unet(noisy, steps, words * kept[:, None, None], added_cond_kwargs=added).sample
        return F.mse_loss(out.float(), target), {}

    base = fit(base, lambda step, generator: loss_of(base, generator), JOINT, folder / "joint")
    base.unet.requires_grad_(True).train()
    base = fit(base, lambda step, generator: loss_of(base, generator), UNET, folder / "unet")
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        text_encoder_2=base.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=base.unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    base.unet.set_default_attn_processor()
    pipeline.save_pretrained(folder / "pipeline")
    save_words(captions, folder / "pipeline")
    return pipeline


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Path(sys.argv[1]))
