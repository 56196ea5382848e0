"""Training of the miniature's recogniser, on renders in all styles.

Run as ``python -m recipes.miniature.bundled.recogniser RUN_FOLDER``.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.recogniser import TRAITS, Recogniser, crop_subject, true_answers
from diffusers_nested.miniature.world import Person, Pet, random_person, random_pet, random_scene

from .data import to_pixels
from .loop import Recipe, fit

RECIPE = Recipe(steps=3500, lr=2e-3, ema=0.998, seed=20)
IDENTITIES, VIEWS, BATCH = 8000, 6, 64
TEMPERATURE = 0.1


def draw_views(count: int, views: int, seed: int, held_out: bool) -> tuple[np.ndarray, list[list[dict[str, str]]]]:
    """Several pictures of each of many identities.

    Returns:
        uint8 pictures (count, views, 32, 32, 3), and the true answers of each.
    """
    rng = np.random.default_rng(seed)
    pictures, answers = [], []
    for i in range(count):
        subject = random_person(rng, held_out) if i % 3 else random_pet(rng, held_out)
        seen = [_view(rng, subject) for _ in range(views)]
        pictures.append(np.stack([picture for picture, _ in seen]))
        answers.append([truth for _, truth in seen])
    return np.stack(pictures), answers


def _view(rng: np.random.Generator, subject: Person | Pet) -> tuple[np.ndarray, dict[str, str]]:
    if rng.random() < 0.8:
        scene, index = random_scene(rng, (subject,)), 0
        picture = render(scene, rng)
    else:
        index = int(rng.integers(2))
        other = random_pet(rng) if isinstance(subject, Person) else random_person(rng)
        scene = random_scene(rng, (subject, other) if index == 0 else (other, subject))
        picture = crop_subject(render(scene, rng), index)
    return picture, true_answers(subject, scene.looks[index], scene.place, scene.style)


def degraded(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with some blur and noise, as generated ones have: (B, 3, 32, 32) in and out."""
    amount = 0.6 * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = torch.randn(pixels.shape, generator=generator)
    deviation = 0.12 * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    return pixels + amount * (blurred - pixels) + deviation * noise


def train(folder: Path, recipe: Recipe = RECIPE) -> Recogniser:
    """Train the recogniser and save it under ``folder / "recogniser"``."""
    pictures, answers = draw_views(IDENTITIES, VIEWS, seed=3, held_out=False)
    labels = {name: _labels(name, answers) for name in TRAITS}
    torch.manual_seed(recipe.seed)
    model = Recogniser()

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        who = torch.randperm(IDENTITIES, generator=generator)[:BATCH].repeat(2)
        first = torch.randint(VIEWS, (BATCH,), generator=generator)
        shift = torch.randint(1, VIEWS, (BATCH,), generator=generator)
        view = torch.cat([first, (first + shift) % VIEWS])
        pixels = to_pixels(pictures[who.numpy(), view.numpy()])
        embeddings, logits = model(degraded(pixels, generator))
        alike = contrastive(embeddings[:BATCH].float(), embeddings[BATCH:].float())
        read = [F.cross_entropy(logits[name].float(), labels[name][who, view], ignore_index=-1) for name in TRAITS]
        return alike + torch.stack(read).sum() / 4, {"alike": float(alike.detach())}

    trained = fit(model, batch_loss, recipe, folder / "recogniser-run")
    assert isinstance(trained, Recogniser)
    trained.save_pretrained(folder / "recogniser")
    return trained


def contrastive(left: Tensor, right: Tensor) -> Tensor:
    """Symmetric InfoNCE of two views (B, D) of the same identities."""
    logits = left @ right.T / TEMPERATURE
    target = torch.arange(len(left))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _labels(name: str, answers: list[list[dict[str, str]]]) -> Tensor:
    """Class numbers (identities, views) of a trait; -1 where the subject has no such trait."""
    index = {answer: i for i, answer in enumerate(TRAITS[name])}
    return torch.tensor([[index[truth[name]] if name in truth else -1 for truth in row] for row in answers])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Path(sys.argv[1]))
