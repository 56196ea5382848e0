"""Pictures and captions of the miniature world in bulk, as tensors."""

import numpy as np
import torch
from torch import Tensor

from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.world import Scene, random_scene, random_subjects

from .captions import describe


def draw_scenes(count: int, seed: int, duo: float = 0.25) -> tuple[list[Scene], list[str], np.ndarray]:
    """Draw random scenes with their captions and pictures.

    Returns:
        The scenes, the captions, and uint8 pictures of shape (count, 32, 32, 3).
    """
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, random_subjects(rng, duo)) for _ in range(count)]
    captions = [describe(scene, rng) for scene in scenes]
    return scenes, captions, np.stack([render(scene, rng) for scene in scenes])


def to_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 pictures (B, 32, 32, 3) as floats in -1..1 of shape (B, 3, 32, 32)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
