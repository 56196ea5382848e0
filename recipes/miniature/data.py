"""What the miniature's models learn from: scenes, pictures, masks and latents."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.making.base import encode_pictures
from diffusers_nested.miniature.making.data import to_pixels
from diffusers_nested.miniature.world import Scene, random_scene, random_subjects

PICTURES = 60_000


@dataclass(frozen=True)
class Pictures:
    """N scenes, pictures (N, 32, 32, 3), masks (N, 2, 32, 32) of up to two subjects, and latents (N, 4, 16, 16)."""

    scenes: list[Scene]
    pixels: np.ndarray
    masks: np.ndarray
    latents: Tensor


def draw_pictures(count: int, seed: int) -> tuple[list[Scene], np.ndarray, np.ndarray]:
    """Scenes by lot, each drawn with details of its own, and where its subjects are."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, random_subjects(rng)) for _ in range(count)]
    pixels = np.stack([render(scene, np.random.default_rng([seed, i])) for i, scene in enumerate(scenes)])
    masks = np.zeros((count, 2, 32, 32), bool)
    for i, scene in enumerate(scenes):
        masks[i, : len(scene.subjects)] = subject_masks(scene, np.random.default_rng([seed, i]))
    return scenes, pixels, masks


def load_pictures(folder: Path, vae: AutoencoderKL, count: int = PICTURES, seed: int = 2) -> Pictures:
    """The training set; its latents are encoded once and kept in ``folder / "latents.pt"``."""
    scenes, pixels, masks = draw_pictures(count, seed)
    path = folder / "latents.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(encode_pictures(vae, to_pixels(pixels)), path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    return Pictures(scenes, pixels, masks, torch.load(path, weights_only=True))
