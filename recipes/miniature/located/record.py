"""Attention to words in pictures whose subjects' places are known.

Drawn pictures are noised to a part of the way and sampled from there, which keeps where their subjects are; and, to see
a sampling from its first step, they are noised to each of its steps in turn.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from torch import Tensor

from diffusers_nested.miniature.sampling import GUIDANCE, STEPS
from diffusers_nested.prompts import word_positions

from ..bundled.base import TIME_IDS, encode_pictures
from ..bundled.data import to_pixels
from ..words.measure import WORDS, Task
from ..words.reading import Ledger, install

STRENGTH = 0.7
# Per call of the UNet, per layer: (B, heads, queries, groups), the attention that each of the words gets, and all the
# words of the prompt together.
Recording = list[dict[str, Tensor]]


@torch.no_grad()
def redrawn(pipeline: Any, task: Task) -> Recording:
    """Sampling from the noised pictures, with guidance."""
    spots, steps = _groups(pipeline, task.texts), []
    redraw = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline)
    redraw.set_progress_bar_config(disable=True)
    with _watched(pipeline) as ledger:

        def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            steps.append(_read(ledger, spots))
            return tensors

        redraw(
            list(task.texts),
            image=to_pixels(task.pixels) / 2 + 0.5,
            strength=STRENGTH,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(i) for i in range(len(task.texts))],
            callback_on_step_end=after_step,
            output_type="latent",
        )
    return steps


@torch.no_grad()
def noised(pipeline: Any, task: Task) -> Recording:
    """The pictures noised to every step of a whole sampling."""
    spots, steps = _groups(pipeline, task.texts), []
    latents = encode_pictures(pipeline.vae, to_pixels(task.pixels)).float()
    parts = [pipeline.encode_prompt(t, num_images_per_prompt=1, do_classifier_free_guidance=False) for t in task.texts]
    states, pooled = torch.cat([p[0] for p in parts]), torch.cat([p[2] for p in parts])
    added = {"text_embeds": pooled, "time_ids": torch.tensor(TIME_IDS).expand(len(latents), 6)}
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    pipeline.scheduler.set_timesteps(STEPS)
    with _watched(pipeline) as ledger:
        for level in pipeline.scheduler.timesteps:
            noisy = pipeline.scheduler.add_noise(latents, noise, level.expand(len(latents)))
            pipeline.unet(noisy, level, states, added_cond_kwargs=added)
            steps.append(_read(ledger, spots))
    return steps


def _groups(pipeline: Any, texts: Sequence[str]) -> Tensor:
    """(B, 77, groups): 1 at the tokens of each of the words, and of all words."""
    tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
    present = [word for word in WORDS if word in texts[0].split()]
    spots = torch.zeros(len(texts), 77, len(present) + 1)
    for i, text in enumerate(texts):
        for w, word in enumerate(present):
            spots[i, list(word_positions(text, None, word, tokenizers)), w] = 1
        spots[i, 1 : len(pipeline.tokenizer(text).input_ids) - 1, -1] = 1
    return spots


def _read(ledger: Ledger, spots: Tensor) -> dict[str, Tensor]:
    """The last call's attention by group, in its last rows, which have the prompts."""
    return {name: weights[-len(spots) :] @ spots[:, None] for name, weights in ledger.weights.items()}


@contextmanager
def _watched(pipeline: Any) -> Iterator[Ledger]:
    ledger, before = Ledger(keep=True), dict(pipeline.unet.attn_processors)
    install(pipeline.unet, ledger)
    try:
        yield ledger
    finally:
        pipeline.unet.set_attn_processor(before)
