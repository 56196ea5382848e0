"""The miniature's autoencoder: 32 x 32 pictures to 16 x 16 x 4 latents of unit variance.

Run as ``python -m recipes.miniature.bundled.autoencoder RUN_FOLDER``.
"""

import logging
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from .data import draw_scenes, to_pixels
from .loop import Recipe, fit

RECIPE = Recipe(steps=8000, lr=2e-3, ema=0.995, weight_decay=1e-4)
BATCH = 8


def build() -> AutoencoderKL:
    """The autoencoder with fresh weights."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        latent_channels=4,
        norm_num_groups=16,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def train(folder: Path, recipe: Recipe = RECIPE) -> AutoencoderKL:
    """Train the autoencoder and save it under ``folder / "vae"``."""
    torch.manual_seed(recipe.seed)
    pixels = to_pixels(draw_scenes(24000, seed=1)[2])
    model = build()

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = pixels[torch.randint(len(pixels), (BATCH,), generator=generator)]
        posterior = model.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        out = model.decode(posterior.mean + posterior.std * noise).sample
        mse = F.mse_loss(out, batch)
        loss = F.l1_loss(out, batch) + 3.0 * mse + 5e-4 * posterior.kl().mean() / pixels[0].numel()
        return loss, {"psnr": float(10 * torch.log10(4.0 / mse.detach()))}

    trained = fit(model, batch_loss, recipe, folder / "autoencoder")
    assert isinstance(trained, AutoencoderKL)
    whiten(trained, pixels[:2000])
    trained.save_pretrained(folder / "vae")
    return trained


@torch.no_grad()
def whiten(model: AutoencoderKL, pixels: Tensor) -> None:
    """Fold per-channel mean and deviation of the latents into the two 1 x 1 convolutions around them."""
    means = torch.cat([model.encode(part).latent_dist.mean for part in pixels.split(200)])
    mean, std = means.mean((0, 2, 3)), means.std((0, 2, 3))
    quant, post = model.quant_conv, model.post_quant_conv
    assert quant is not None and post is not None and quant.bias is not None and post.bias is not None
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
    quant.weight[:4] /= std[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - mean) / std
    quant.bias[4:] -= 2 * std.log()  # the second half of the moments is a log-variance


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Path(sys.argv[1]))
