"""The miniature's recogniser: who and what is in a picture."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .world import (
    BEARDS,
    CLOTH,
    EXPRESSIONS,
    EYES,
    FUR,
    GLASSES,
    HAIR,
    HAIR_STYLES,
    PATTERNS,
    PLACES,
    ROLES,
    SKIN,
    SPECIES,
    STYLES,
    Look,
    Person,
    Pet,
)

# The traits that are read from a picture, with their answers in the order of the logits.
PERSON_TRAITS = {
    "skin": tuple(SKIN),
    "hair": tuple(HAIR),
    "hair_style": HAIR_STYLES,
    "eyes": tuple(EYES),
    "glasses": tuple(GLASSES),
    "beard": BEARDS,
}
PET_TRAITS = {"species": SPECIES, "fur": tuple(FUR), "pattern": PATTERNS, "eyes": tuple(EYES)}
SCENE_TRAITS = {
    "shirt": tuple(CLOTH),
    "hat": ("none", *CLOTH),
    "expression": EXPRESSIONS,
    "role": ROLES,
    "place": PLACES,
    "style": STYLES,
}
TRAITS: dict[str, tuple[str, ...]] = {
    "kind": ("person", "pet"),
    **{f"person.{name}": answers for name, answers in PERSON_TRAITS.items()},
    **{f"pet.{name}": answers for name, answers in PET_TRAITS.items()},
    **{f"scene.{name}": answers for name, answers in SCENE_TRAITS.items()},
}


class Recogniser(ModelMixin, ConfigMixin):
    """A small convolutional network with an identity embedding and a classifier per trait."""

    @register_to_config
    def __init__(self, width: int = 48, embedding_dim: int = 64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_block(3, width, 1),
            *_block(width, 2 * width, 2),
            *_block(2 * width, 2 * width, 1),
            *_block(2 * width, 3 * width, 2),
            *_block(3 * width, 3 * width, 1),
            *_block(3 * width, 3 * width, 2),
            nn.Flatten(),
            nn.Linear(3 * width * 16, 256),
            nn.SiLU(),
        )
        self.identity = nn.Linear(256, embedding_dim)
        self.traits = nn.ModuleDict(
            {name.replace(".", "_"): nn.Linear(256, len(answers)) for name, answers in TRAITS.items()}
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Read pictures.

        Args:
            pixels: (B, 3, 32, 32) in -1..1.

        Returns:
            Identity embeddings of length one (B, embedding_dim), and logits per name of ``TRAITS``.
        """
        features = self.trunk(pixels)
        logits = {name: self.traits[name.replace(".", "_")](features) for name in TRAITS}
        return F.normalize(self.identity(features), dim=-1), logits

    @torch.no_grad()
    def read(self, pictures: np.ndarray) -> tuple[Tensor, list[dict[str, str]]]:
        """Identity embeddings (B, D) and answers of uint8 pictures (B, 32, 32, 3)."""
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        embeddings, logits = self(pixels.to(self.device, self.dtype))
        best = {name: scores.argmax(-1).tolist() for name, scores in logits.items()}
        answers = [{name: TRAITS[name][best[name][i]] for name in TRAITS} for i in range(len(pictures))]
        return embeddings.float(), answers


def true_answers(subject: Person | Pet, look: Look, place: str, style: str) -> dict[str, str]:
    """The right answers for a subject in a picture, without the traits of the other kind."""
    human = isinstance(subject, Person)
    kind, traits = ("person", PERSON_TRAITS) if human else ("pet", PET_TRAITS)
    scene: dict[str, Any] = {"place": place, "style": style, **vars(look)}
    if not human:
        del scene["role"]
    return {
        "kind": kind,
        **{f"{kind}.{name}": getattr(subject, name) for name in traits},
        **{f"scene.{name}": value for name, value in scene.items()},
    }


def crop_subject(picture: np.ndarray, index: int) -> np.ndarray:
    """One half of a picture (32, 32, 3) of two subjects, on black; index 0 is the left one."""
    crop = np.zeros_like(picture)
    crop[:, 8:24] = picture[:, 16 * index : 16 * index + 16]
    return crop


def _block(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride, 1),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
    ]
