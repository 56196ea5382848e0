"""The noise of a training step: what is drawn, what the UNet should predict, and how timesteps are weighted."""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ..data import seeded_generator
from ..errors import NestedAdapterError

_KINDS = ("epsilon", "v_prediction")


def training_scheduler(scheduler: Any) -> DDPMScheduler:
    """The forward process of a pipeline's scheduler, whatever its sampler.

    Raises:
        NestedAdapterError: The model predicts neither noise nor velocity.
    """
    made = DDPMScheduler.from_config(scheduler.config)
    if made.config["prediction_type"] not in _KINDS:  # pyright: ignore[reportAttributeAccessIssue]
        raise NestedAdapterError(
            f"prediction_type of the scheduler must be {' or '.join(_KINDS)}, got "
            f"{made.config['prediction_type']!r}. Train on a pipeline with one of these."  # pyright: ignore[reportAttributeAccessIssue]
        )
    return made  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, eq=False)
class Noise:
    """The random part of one forward pass over B examples.

    Attributes:
        noise: Like the latents, (B, C, h, w).
        timesteps: (B,), drawn uniformly, those of a step one from each of equal parts of the range.
        dropped: (B,) of bool, True for examples without their prompt, the subjects included.
        no_caption: (B,) of bool, True for those without their caption alone.
        no_photo: (B,) of bool, True for those without their photos alone.
    """

    noise: Tensor
    timesteps: Tensor
    dropped: Tensor
    no_caption: Tensor
    no_photo: Tensor


@dataclass(frozen=True)
class Dropout:
    """Shares of the examples that lose something; each loses one of these at most.

    Attributes:
        prompts: Caption and photos.
        captions: The caption alone.
        photos: The photos alone.
    """

    prompts: float = 0.0
    captions: float = 0.0
    photos: float = 0.0


@dataclass(frozen=True)
class Places:
    """Where the examples of a batch stand among all of a run, which determines their noise.

    The examples of a step are the same however they are shared out to processes and accumulated batches, and so is the
    noise of each: one process with batches of four learns what two with batches of two do.

    Attributes:
        key: Of the run and the purpose.
        first: Number of the batch's first example; the others follow it.
        total: How many examples a step has, in all processes and accumulated batches.
    """

    key: Hashable
    first: int
    total: int


def draw_noise(latents: Tensor, num_timesteps: int, dropout: Dropout, places: Places) -> Noise:
    """Draw on the CPU, so that all devices get the same numbers, then move to the latents' device."""
    numbers = range(places.first, places.first + len(latents))
    generators = [seeded_generator(places.key, number) for number in numbers]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in generators])
    drawn = torch.stack([torch.rand(2, generator=generator) for generator in generators])  # (B, 2)
    # one in each part of the range: less variance
    spread = (torch.tensor(numbers) % places.total + drawn[:, 0]) / places.total
    timesteps = (spread * num_timesteps).long().clamp(max=num_timesteps - 1)
    ends = torch.tensor([0.0, dropout.prompts, dropout.captions, dropout.photos]).cumsum(0)
    lost = [(drawn[:, 1] >= first) & (drawn[:, 1] < end) for first, end in pairwise(ends)]
    return Noise(*(x.to(latents.device) for x in (noise, timesteps, *lost)))


def prediction_target(scheduler: DDPMScheduler, latents: Tensor, drawn: Noise) -> Tensor:
    """What the UNet should predict: the noise, or the velocity √ᾱ ε − √(1−ᾱ) x (arXiv 2202.00512)."""
    if scheduler.config["prediction_type"] == "epsilon":
        return drawn.noise
    return scheduler.get_velocity(latents, drawn.noise, drawn.timesteps)  # pyright: ignore[reportArgumentType]


def min_snr_weights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """Min-SNR loss weights (arXiv 2303.09556), (B,).

    With SNR = ᾱ / (1 − ᾱ), they are min(SNR, γ) / SNR for noise and min(SNR, γ) / (SNR + 1) for velocity. Written in ᾱ,
    both are finite at SNR = 0, where ᾱ = 0.
    """
    signal = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].float()  # ᾱ
    if scheduler.config["prediction_type"] == "epsilon":
        return (gamma * (1 - signal) / signal).clamp(max=1)
    return torch.minimum(signal, gamma * (1 - signal))
