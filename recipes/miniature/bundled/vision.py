"""Training of the miniature's CLIP: pictures against captions, plus what an adapter will need to see.

Beside CLIP's contrastive loss the pooled embedding must tell every trait, and each patch token its own
pixels, so that the tokens before pooling keep local detail.
Run as ``python -m recipes.miniature.bundled.vision RUN_FOLDER``.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionModelWithProjection

from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.recogniser import TRAITS, true_answers
from diffusers_nested.miniature.world import portrait, random_scene, random_subjects

from .captions import describe
from .data import to_pixels
from .loop import Recipe, fit
from .tokenizer import build_tokenizer

RECIPE = Recipe(steps=4500, lr=1e-3, warmup=200, flat=0.3, seed=30)
BATCH, PICTURES, PATCH, WIDTH = 64, 60_000, 4, 128


class Tower(nn.Module):
    """CLIP with the heads that are used in training only."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.clip = CLIPModel(config)
        self.traits = nn.ModuleDict({n.replace(".", "_"): nn.Linear(96, len(a)) for n, a in TRAITS.items()})
        self.pixels = nn.Linear(WIDTH, 3 * PATCH * PATCH)

    def forward(self, pixels: Tensor, ids: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch: contrastive, traits and patches; and its parts for the log."""
        out = self.clip(input_ids=ids, pixel_values=pixels, return_loss=True)
        tokens = out.vision_model_output.last_hidden_state[:, 1:]  # (B, 64, WIDTH), without the class token
        patches = F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)  # (B, 64, 3 * PATCH * PATCH)
        rebuilt = F.mse_loss(self.pixels(tokens).float(), patches)
        pooled = out.vision_model_output.pooler_output  # projected, (B, 96)
        read = [
            F.cross_entropy(self.traits[n.replace(".", "_")](pooled).float(), labels[n], ignore_index=-1)
            for n in TRAITS
        ]
        told = torch.stack(read).sum()
        parts = {"contrastive": out.loss, "traits": told, "rebuilt": rebuilt}
        return out.loss + told / 4 + 4 * rebuilt, {name: float(part.detach()) for name, part in parts.items()}


def build_config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """A CLIP with a five-layer vision tower of 64 patches."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=3,
        projection_dim=96,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = {
        "image_size": 32,
        "patch_size": PATCH,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "projection_dim": 96,
    }
    return CLIPConfig(text_config=text.to_dict(), vision_config=vision, projection_dim=96)


def draw_training_set(seed: int) -> tuple[np.ndarray, list[str], dict[str, Tensor]]:
    """Pictures (N, 32, 32, 3), full captions, and labels of the traits (of the first subject)."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, random_subjects(rng, duo=0.1)) for _ in range(PICTURES)]
    for i in range(0, PICTURES, 3):  # every third picture is a portrait, as references are
        scenes[i] = portrait(random_subjects(rng, duo=0.0)[0])
    pictures = np.stack([render(scene, rng) for scene in scenes])
    captions = [describe(scene, rng, traits=1.0) for scene in scenes]
    truths = [true_answers(s.subjects[0], s.looks[0], s.place, s.style) if len(s.subjects) == 1 else {} for s in scenes]
    labels = {
        name: torch.tensor([options.index(t[name]) if name in t else -1 for t in truths])
        for name, options in TRAITS.items()
    }
    return pictures, captions, labels


def train(folder: Path, recipe: Recipe = RECIPE) -> CLIPVisionModelWithProjection:
    """Train the CLIP and save it whole, its vision tower alone, and the feature extractor."""
    pictures, captions, labels = draw_training_set(seed=4)
    tokenizer = build_tokenizer(captions)
    ids = tokenizer(captions, padding="max_length", max_length=64, return_tensors="pt").input_ids
    torch.manual_seed(recipe.seed)
    model = Tower(build_config(tokenizer))

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(PICTURES, (BATCH,), generator=generator)
        batch_labels = {name: values[chosen] for name, values in labels.items()}
        return model(to_pixels(pictures[chosen.numpy()]), ids[chosen], batch_labels)

    trained = fit(model, batch_loss, recipe, folder / "vision-run")
    clip = trained.clip
    assert isinstance(clip, CLIPModel)
    vision = CLIPVisionModelWithProjection(clip.config.vision_config)
    vision.load_state_dict({k: v for k, v in clip.state_dict().items() if k.startswith("vis")})
    vision.save_pretrained(folder / "image_encoder")
    feature_extractor().save_pretrained(folder / "feature_extractor")
    clip.save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    return vision


def feature_extractor():
    """CLIP's image processor for 32 x 32 pictures, mapping 0..255 to -1..1."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        resample=0,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Path(sys.argv[1]))
