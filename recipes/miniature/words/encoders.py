"""The miniature's text encoders, trained by contrast with pictures before there is a UNet, as SDXL's were.

Run as ``python -m recipes.miniature.words.encoders RUN_FOLDER``. Beside the contrast of whole captions and pictures,
there is that of

- regions: a noun's own place in the sentence must find its subject's pixels among those of the batch, and a place's
  words the background, so that a word says what can be seen where it belongs;
- blank ends: what follows the sentence (its end and the padding) is to be the same for every caption, so that it is
  somewhere to read nothing, as the start token is.

Both are measured at the states that the UNet will read, the penultimate ones.
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from diffusers_nested import miniature
from diffusers_nested.miniature.language import describe

from ..bundled.base import text_config
from ..bundled.data import to_pixels
from ..bundled.loop import Recipe, fit
from .data import Pictures, load_pictures
from .tokenizer import Encoder, build_tokenizer

RECIPE = Recipe(steps=450, lr=1.5e-3, warmup=60, flat=2 / 3, seed=50, ema=0.99, save_every=150, log_every=25)
BATCH, WIDTH, TRAITS = 64, 96, 0.85
WHOLE = 4  # one batch in four keeps all of its padding, the others are cut to their longest sentence and some more


class TextEncoders(nn.Module):
    """SDXL's two text encoders in small."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(_config(tokenizer, 64))
        self.text_encoder_2 = CLIPTextModelWithProjection(_config(tokenizer, 96))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Penultimate states (B, 77, 160), pooled embedding of the second (B, 96) and of the first (B, 64)."""
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return states, second.text_embeds, first.pooler_output


def _config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    config = text_config(tokenizer, width)
    config._attn_implementation = "eager"  # SDPA's backward is slow on a CPU
    return config


class Contrast(nn.Module):
    """The text encoders with an image tower and projections that are used in this training only."""

    def __init__(self, tokenizer: CLIPTokenizer, regions: float = 1.0, blank: float = 1.0) -> None:
        super().__init__()
        self.text = TextEncoders(tokenizer)
        self.regions, self.blank = regions, blank
        channels = (3, 48, 96, 128, 128)
        strides = (2, 1, 2, 1)
        self.tower = nn.Sequential(*(_layer(*c, s) for *c, s in zip(channels, channels[1:], strides, strict=False)))
        self.whole = nn.Linear(128 * 16, WIDTH)
        self.first = nn.Linear(64, WIDTH)
        self.region, self.ground = nn.Linear(128, WIDTH), nn.Linear(128, WIDTH)
        self.noun, self.place = nn.Linear(160, WIDTH), nn.Linear(160, WIDTH)
        self.scale = nn.Parameter(torch.full((3,), 2.6))

    def forward(
        self, pixels: Tensor, masks: Tensor, ids: Tensor, nouns: Tensor, places: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch, and its parts.

        Args:
            pixels: (B, 3, 32, 32).
            masks: (B, 2, 32, 32), zero for a subject that is not there.
            ids: (B, 77).
            nouns: (B, 2), positions of the subjects' nouns, -1 where there is none.
            places: (B,), position of the place's last word, -1 where there is none.
        """
        states, pooled, first = self.text(ids)
        grid = self.tower(pixels)  # (B, 128, 8, 8)
        seen = self.whole(F.avg_pool2d(grid, 2).flatten(1))
        whole, hits = self._match(pooled, seen, 0)
        whole = whole + self._match(self.first(first), seen, 0)[0]
        cells = F.avg_pool2d(masks, 4)  # (B, 2, 8, 8)
        rows, slots = (nouns >= 0).nonzero(as_tuple=True)
        local = torch.einsum("bchw,bshw->bsc", grid, cells) / (cells.sum((2, 3))[..., None] + 1e-3)
        found, noun_hits = self._match(self.noun(states[rows, nouns[rows, slots]]), self.region(local[rows, slots]), 1)
        free = 1 - cells.sum(1, keepdim=True).clamp(max=1)
        around = torch.einsum("bchw,bshw->bsc", grid, free)[:, 0] / (free.sum((2, 3)) + 1e-3)
        here = places >= 0
        sited, _ = self._match(self.place(states[here, places[here]]), self.ground(around[here]), 2)
        spread = self._spread(states, ids)
        loss = whole + self.regions * (found + sited) + self.blank * spread
        parts = {"whole": whole, "nouns": found, "places": sited, "ends": spread, "top1": hits, "noun_top1": noun_hits}
        return loss, {name: float(part.detach()) for name, part in parts.items()}

    def _match(self, words: Tensor, pictures: Tensor, which: int) -> tuple[Tensor, Tensor]:
        """Symmetric InfoNCE of pairs (N, D), and how often a caption's own picture is the nearest."""
        words, pictures = F.normalize(words.float(), dim=-1), F.normalize(pictures.float(), dim=-1)
        logits = self.scale[which].clamp(max=4.6).exp() * words @ pictures.T
        target = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return loss, (logits.argmax(1) == target).float().mean()

    def _spread(self, states: Tensor, ids: Tensor) -> Tensor:
        """Variance over captions of the states after the sentence, as a share of the variance of all states."""
        end = self.text.text_encoder.config.eos_token_id
        after = (ids == end).float()[..., None]
        states = states.float()
        mean = (states * after).sum(0) / after.sum(0).clamp(min=1)
        spread = ((states - mean).square() * after).sum() / after.sum()
        words = 1 - after
        words[:, 0] = 0
        centre = (states * words).sum((0, 1)) / words.sum()
        return spread / (((states - centre).square() * words).sum() / words.sum()).detach()


def _layer(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
    return nn.Sequential(convolution, nn.GroupNorm(8, channels_out), nn.SiLU())


def batch_of(pictures: Pictures, encoder: Encoder, generator: torch.Generator, size: int) -> tuple[Tensor, ...]:
    """Arguments of ``Contrast`` for a random batch with fresh captions."""
    chosen = torch.randint(len(pictures.scenes), (size,), generator=generator).numpy()
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    ids, at = encoder.padded([describe(pictures.scenes[i], rng, TRAITS) for i in chosen])
    nouns = torch.tensor([[place.get("noun 0", -1), place.get("noun 1", -1)] for place in at])
    places = torch.tensor([place.get("place", -1) for place in at])
    masks = torch.from_numpy(pictures.masks[chosen]).float()
    return to_pixels(pictures.pixels[chosen]), masks, torch.tensor(ids), nouns, places


def train(folder: Path, regions: float = 1.0, blank: float = 1.0, name: str = "words", steps: int = 0) -> TextEncoders:
    """Train the encoders, or load them if they are trained; they are saved under ``folder / name``."""
    recipe = replace(RECIPE, steps=steps or RECIPE.steps)
    tokenizer = build_tokenizer()
    torch.manual_seed(recipe.seed)
    model = Contrast(tokenizer, regions, blank)
    final = folder / f"{name}.pt"
    if final.exists():
        model.text.load_state_dict(torch.load(final, weights_only=True))
        return model.text
    vae = AutoencoderKL.from_pretrained(miniature.path() / "vae").requires_grad_(False)
    pictures, encoder = load_pictures(folder, vae), Encoder(tokenizer)

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pixels, masks, ids, nouns, places = batch_of(pictures, encoder, generator, BATCH)
        if step % WHOLE:
            ids = ids[:, : int((ids != tokenizer.eos_token_id).sum(1).max()) + 4]
        return model(pixels, masks, ids, nouns, places)

    trained = fit(model, batch_loss, recipe, folder / name)
    assert isinstance(trained, Contrast)
    trained.text.eval()
    torch.save(trained.text.state_dict(), final)
    return trained.text


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Path(sys.argv[1]))
