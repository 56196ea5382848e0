"""The pictures to make in a comparison: subject, prompt and noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..backbones import backbone_of
from ..data import read_lines, seeded_generator
from ..errors import NestedAdapterError, PromptTokenError
from ..pipelines.state import inner_unet
from ..prompts import word_positions
from .references import Reference
from .worlds import WORLDS


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture that every contestant makes.

    Attributes:
        reference: The subject.
        prompt: The prompt, with the subject's word.
        prompt_index: Index of the prompt in the settings.
        seed: One of the seeds in the settings.
    """

    reference: Reference
    prompt: str
    prompt_index: int
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies a shot."""
        return self.reference.name, self.prompt, self.seed

    def generator(self) -> torch.Generator:
        """The generator of the noise, on the CPU; it depends on subject, prompt and seed alone."""
        return seeded_generator("noise", *self.key)


def load_prompts(given: Any) -> list[str]:
    """Read prompts from a list, a text file with one per line, or the name of a world.

    Raises:
        NestedAdapterError: The file does not exist or is not UTF-8, or there are no prompts, or two are equal.
    """
    if isinstance(given, str) and given in WORLDS:
        return list(WORLDS[given].prompts)
    if isinstance(given, str | Path):
        path = Path(given)
        if not path.is_file():
            raise NestedAdapterError(
                f"The prompt file {path} does not exist. Name a text file with one prompt per line, or give a list of "
                "prompts."
            )
        prompts = [line for _, line in read_lines(path)]
    elif isinstance(given, Sequence):
        prompts = list(given)
    else:
        raise NestedAdapterError(f"prompts must be a list, a file or the name of a world, got {given!r}.")
    if not prompts:
        raise NestedAdapterError(f"There are no prompts in {given!r}. Write one per line.")
    wrong = [prompt for prompt in prompts if not isinstance(prompt, str) or not prompt.strip()]
    if wrong or len(set(prompts)) < len(prompts):
        raise NestedAdapterError(f"Prompts must be strings that differ from each other, got {prompts!r}.")
    return prompts


def plan_shots(references: Sequence[Reference], prompts: Sequence[str], seeds: Sequence[int]) -> list[Shot]:
    """List all pictures in order: by subject, prompt and seed; ``{}`` becomes the subject's word.

    Raises:
        NestedAdapterError: A prompt has ``{}`` but the subject has several words, or two prompts become the same.
    """
    shots = []
    for reference in references:
        written = [_written(prompt, reference) for prompt in prompts]
        if len(set(written)) < len(written):
            raise NestedAdapterError(
                f"Two prompts become the same for the subject {reference.name!r}, got {written}. Change one."
            )
        for index, prompt in enumerate(written):
            shots += [Shot(reference, prompt, index, seed) for seed in seeds]
    return shots


def check_words(shots: Sequence[Shot], pipeline: Any) -> None:
    """Raise unless the pipeline finds the words of its subject in every prompt.

    Raises:
        PromptTokenError: It does not; the message names the prompt and the word.
    """
    tokenizers = backbone_of(inner_unet(pipeline)).tokenizers_of(pipeline)
    for prompt, word in dict.fromkeys((shot.prompt, word) for shot in shots for word in shot.reference.words):
        try:
            word_positions(prompt, None, word, tokenizers, pipeline.maybe_convert_prompt)
        except PromptTokenError as error:
            raise PromptTokenError(f"The prompt {prompt!r} does not fit its subjects: {error}") from error


def _written(prompt: str, reference: Reference) -> str:
    if "{}" not in prompt:
        return prompt
    word, *others = reference.words
    if others:
        raise NestedAdapterError(
            f"In the prompt {prompt!r}, {{}} could be any of {', '.join(reference.words)}, the words of the subject "
            f"{reference.name!r}. Write the words themselves."
        )
    return prompt.replace("{}", word)
