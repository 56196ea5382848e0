"""Two vision towers of the miniature that are not CLIPs: neither in their form, nor in what they learn from.

- ``recogniser``, in DINOv2's form: two pictures of a subject, a portrait and another scene, must find one another among
  those of the batch. It sees no captions.
- ``siglip``, in SigLIP's form: each pair of picture and caption is told to belong together or not, by a sigmoid.

Run as ``python -m recipes.miniature.towers.vision FOLDER``.
"""

import logging
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessorPil,
    SiglipTextConfig,
    SiglipTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.world import Scene, portrait, random_scene, random_subjects

from ..bundled.captions import describe
from ..bundled.data import to_pixels
from ..bundled.loop import Recipe, fit
from ..bundled.tokenizer import build_tokenizer

RECIPE = Recipe(steps=600, lr=1e-3, warmup=100, flat=0.3, seed=50, save_every=50)
PAIRS, BATCH, LENGTH = 30_000, 64, 64
SIZES = {
    "hidden_size": 128,  # as the bundled CLIP
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 4,
}
_TO_RANGE = {"resample": 0, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_SQUARE = {"height": 32, "width": 32}
CROPPED = BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=_SQUARE, **_TO_RANGE)
RESIZED = SiglipImageProcessorPil(size=_SQUARE, **_TO_RANGE)


class Recogniser(nn.Module):
    """DINOv2's form, with the head that is used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=4))
        self.head = nn.Linear(SIZES["hidden_size"], 64)
        self.scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, float]]:
        """InfoNCE of two pictures each (B, 3, 32, 32) of B subjects."""
        seen = self.head(self.tower(torch.cat([left, right])).pooler_output)
        left, right = F.normalize(seen.float(), dim=-1).chunk(2)
        logits = self.scale.clamp(max=4.6).exp() * left @ right.T
        own = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        return loss, {"top1": float((logits.argmax(1) == own).float().mean())}


class Siglip(nn.Module):
    """SigLIP's form, with its text tower."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tower = SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=512))
        text = {"vocab_size": len(tokenizer), "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2}
        special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
        shape = {"num_attention_heads": 3, "max_position_embeddings": LENGTH, "projection_size": 128}
        self.text = SiglipTextModel(SiglipTextConfig(**text, **shape, **special))
        self.scale, self.bias = nn.Parameter(torch.tensor(math.log(10.0))), nn.Parameter(torch.tensor(-10.0))

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The pairwise loss of arXiv 2303.15343 of pictures (B, 3, 32, 32) and captions (B, L)."""
        seen = F.normalize(self.tower(pixels).pooler_output.float(), dim=-1)
        told = F.normalize(self.text(ids).pooler_output.float(), dim=-1)
        logits = self.scale.exp() * seen @ told.T + self.bias
        belongs = 2 * torch.eye(len(logits)) - 1
        loss = -F.logsigmoid(belongs * logits).sum(1).mean()
        return loss, {"top1": float((logits.argmax(1) == torch.arange(len(logits))).float().mean())}


def draw_pairs(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A portrait and another picture (N, 32, 32, 3) of each of N subjects, and captions of the latter."""
    rng = np.random.default_rng(seed)
    subjects = [random_subjects(rng, duo=0.0)[0] for _ in range(PAIRS)]
    scenes: list[Scene] = [random_scene(rng, (one,)) for one in subjects]
    portraits = np.stack([render(portrait(one), rng) for one in subjects])
    return portraits, np.stack([render(one, rng) for one in scenes]), [describe(one, rng, traits=1.0) for one in scenes]


def train_recogniser(folder: Path, recipe: Recipe = RECIPE) -> None:
    """Train it, and save it with its preprocessing as an adapter's folder has them."""
    portraits, others, _ = draw_pairs(seed=5)
    torch.manual_seed(recipe.seed)
    model = Recogniser()

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = _draw(generator)
        return model(to_pixels(portraits[chosen]), to_pixels(others[chosen]))

    _keep(folder / "recogniser", fit(model, batch_loss, recipe, folder / "recogniser" / "vision-run"), CROPPED)


def train_siglip(folder: Path, recipe: Recipe = RECIPE) -> None:
    """Train it, and save it with its preprocessing as an adapter's folder has them."""
    _, pictures, captions = draw_pairs(seed=6)
    tokenizer = build_tokenizer(captions)
    ids = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
    torch.manual_seed(recipe.seed)
    model = Siglip(tokenizer)

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = _draw(generator)
        return model(to_pixels(pictures[chosen]), ids[torch.from_numpy(chosen)])

    _keep(folder / "siglip", fit(model, batch_loss, recipe, folder / "siglip" / "vision-run"), RESIZED)


def _draw(generator: torch.Generator) -> np.ndarray:
    return torch.randint(PAIRS, (BATCH,), generator=generator).numpy()


def _keep(folder: Path, trained: Any, processor: Any) -> None:
    trained.tower.save_pretrained(folder / "image_encoder")
    processor.save_pretrained(folder / "feature_extractor")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_recogniser(Path(sys.argv[1]))
    train_siglip(Path(sys.argv[1]))
