"""Attention to words while pictures are sampled whose subjects' places are known.

A drawn picture is noised to a part of the way and sampled from there, which keeps where its subjects are; and, to see
the first steps of a whole sampling, it is noised to each step in turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
FUNCTION_WORDS = [
    "a",
    "an",
    "the",
    "of",
    "in",
    "on",
    "with",
    "and",
    "who",
    "that",
    "at",
    "by",
    "as",
    "to",
    "is",
    "from",
]
GROUPS = (*WORDS, "content", "nouns and the like", "start", "rest")


@dataclass(frozen=True)
class Recording:
    """What the layers read in the conditional rows.

    Attributes:
        steps: Per UNet call, per layer: (B, heads, queries, groups), the attention that each of ``GROUPS`` gets.
        levels: Side of each layer's queries.
    """

    steps: list[list[Tensor]]
    levels: list[int]


def groups_of(pipeline: Any, texts: Sequence[str]) -> Tensor:
    """(B, 77, groups): 1 at the tokens of each of ``GROUPS``."""
    tokenizer = pipeline.tokenizer
    spots = torch.zeros(len(texts), 77, len(GROUPS))
    for i, text in enumerate(texts):
        for w, word in enumerate(WORDS):
            if word in text.replace(",", " ").replace(":", " ").split():
                spots[i, list(word_positions(text, None, word, (tokenizer, pipeline.tokenizer_2))), w] = 1
        pieces = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
        inside = slice(1, len(pieces) - 1)
        spots[i, inside, 2] = 1
        spots[i, inside, 3] = torch.tensor(
            [p.removesuffix("</w>") not in FUNCTION_WORDS for p in pieces[inside]]
        ).float()
        spots[i, 0, 4] = 1
        spots[i, len(pieces) - 1 :, 5] = 1
    return spots


def _read(ledger: Ledger, spots: Tensor) -> list[Tensor]:
    """The last call's attention by group, in its last rows."""
    return [(weights[-len(spots) :] @ spots[:, None]).half() for weights in ledger.weights.values()]


def _watched(pipeline: Any) -> Iterator[Ledger]:
    ledger, before = Ledger(keep=True), dict(pipeline.unet.attn_processors)
    install(pipeline.unet, ledger)
    yield ledger
    pipeline.unet.set_attn_processor(before)


@torch.no_grad()
def redrawn(pipeline: Any, task: Task, strength: float = STRENGTH) -> Recording:
    """Sampling from the noised pictures, with guidance."""
    spots, steps = groups_of(pipeline, task.texts), []
    redraw = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline)
    redraw.set_progress_bar_config(disable=True)
    for ledger in _watched(pipeline):

        def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            steps.append(_read(ledger, spots))
            return tensors

        redraw(
            list(task.texts),
            image=to_pixels(task.pixels),
            strength=strength,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(i) for i in range(len(task.texts))],
            callback_on_step_end=after_step,
            output_type="latent",
        )
    return Recording(steps, _sides(steps))


@torch.no_grad()
def noised(pipeline: Any, task: Task) -> Recording:
    """The pictures noised to every step of a whole sampling."""
    spots, steps = groups_of(pipeline, task.texts), []
    latents = encode_pictures(pipeline.vae, to_pixels(task.pixels)).float()
    parts = [pipeline.encode_prompt(t, num_images_per_prompt=1, do_classifier_free_guidance=False) for t in task.texts]
    states, pooled = torch.cat([p[0] for p in parts]), torch.cat([p[2] for p in parts])
    added = {"text_embeds": pooled, "time_ids": torch.tensor(TIME_IDS).expand(len(latents), 6)}
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    pipeline.scheduler.set_timesteps(STEPS)
    for ledger in _watched(pipeline):
        for level in pipeline.scheduler.timesteps:
            noisy = pipeline.scheduler.add_noise(latents, noise, level.expand(len(latents)))
            pipeline.unet(noisy, level, states, added_cond_kwargs=added)
            steps.append(_read(ledger, spots))
    return Recording(steps, _sides(steps))


def _sides(steps: list[list[Tensor]]) -> list[int]:
    return [round(layer.shape[2] ** 0.5) for layer in steps[0]]
