"""What the miniature's models learn from: scenes, pictures, masks and latents."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.world import (
    EXPRESSIONS,
    Person,
    Pet,
    Scene,
    random_person,
    random_scene,
    random_subjects,
)

from ..bundled.base import encode_pictures
from ..bundled.data import to_pixels

PICTURES = 60_000
TWO_PEOPLE = 0.1  # share of the pictures that show two people; one in four of the others shows a person and a pet


@dataclass(frozen=True)
class Pictures:
    """N scenes, pictures (N, 32, 32, 3), masks (N, 2, 32, 32) of up to two subjects, and latents (N, 4, 16, 16)."""

    scenes: list[Scene]
    pixels: np.ndarray
    masks: np.ndarray
    latents: Tensor
    seed: int

    def of_expression(self, number: int) -> np.ndarray:
        """Where a picture would differ with another expression: (32, 32)."""
        scene = self.scenes[number]
        found = np.zeros(self.pixels.shape[1:3], bool)
        for expression in EXPRESSIONS:
            looks = tuple(replace(look, expression=expression) for look in scene.looks)
            other = render(replace(scene, looks=looks), np.random.default_rng([self.seed, number]))
            found |= (other != self.pixels[number]).any(-1)
        return found


def draw_pictures(count: int, seed: int) -> tuple[list[Scene], np.ndarray, np.ndarray]:
    """Draw random scenes, their pictures, and masks of their subjects."""
    scenes = draw_scenes(count, seed)
    pixels = np.stack([render(scene, np.random.default_rng([seed, i])) for i, scene in enumerate(scenes)])
    masks = np.zeros((count, 2, 32, 32), bool)
    for i, scene in enumerate(scenes):
        masks[i, : len(scene.subjects)] = subject_masks(scene, np.random.default_rng([seed, i]))
    return scenes, pixels, masks


def draw_scenes(count: int, seed: int) -> list[Scene]:
    """Draw random scenes."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, _subjects(rng)) for _ in range(count)]


def _subjects(rng: np.random.Generator) -> tuple[Person | Pet, ...]:
    if rng.random() < TWO_PEOPLE:
        return random_person(rng), random_person(rng)
    return random_subjects(rng)


def load_pictures(folder: Path, vae: AutoencoderKL, count: int = PICTURES, seed: int = 2) -> Pictures:
    """The training set, which is drawn and encoded once and then kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn, latents = folder / "pictures.pt", folder / "latents.pt"
    if not drawn.exists():
        _, pixels, masks = draw_pictures(count, seed)
        _save({"pixels": torch.from_numpy(pixels), "masks": torch.from_numpy(masks)}, drawn)
    kept = torch.load(drawn, weights_only=True, mmap=True)
    if not latents.exists():
        _save(encode_pictures(vae, to_pixels(kept["pixels"].numpy())), latents)
    encoded = torch.load(latents, weights_only=True)
    return Pictures(draw_scenes(count, seed), kept["pixels"].numpy(), kept["masks"].numpy(), encoded, seed)


def _save(values: object, path: Path) -> None:
    """Write a file atomically."""
    torch.save(values, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
