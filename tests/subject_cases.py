"""What the tests of subjects share: images, embeddings, adapters, and short calls."""

import numpy as np
import PIL.Image
import torch

from diffusers_nested.subjects import ResolvedSubject, resolve_subjects

ONE = {"humans": "person"}
TWO = {"humans": "person", "pets": "pet"}
PHOTO = PIL.Image.new("RGB", (8, 8))
DOG = np.zeros((8, 8, 3), dtype=np.uint8)
CAT = torch.zeros(3, 8, 8)
TOKENS = torch.arange(24.0).reshape(1, 4, 6)
NAN, INF = float("nan"), float("inf")


def resolve(image=None, embeds=None, token=None, num_prompts: int = 1, adapters=TWO) -> list[list[ResolvedSubject]]:
    return resolve_subjects(image, embeds, token, num_prompts=num_prompts, adapter_tokens=adapters)


def only(image=None, embeds=None, token=None, adapters=ONE) -> ResolvedSubject:
    [[subject]] = resolve(image, embeds, token, adapters=adapters)
    return subject


def names(subjects: list[ResolvedSubject]) -> list[tuple[str, str]]:
    return [(subject.adapter_name, subject.token) for subject in subjects]


def same_objects(got, expected) -> bool:
    return len(got) == len(expected) and all(a is b for a, b in zip(got, expected, strict=True))
