"""SDXL in Modular Diffusers: guiders, workflows, pipelines with fixed noise, and the formula's pictures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from brute_force import brute_subject_of, install
from cases import PROMPT, controlled, inpaint, redraw
from diffusers import ClassifierFreeGuidance, LayerSkipConfig, PerturbedAttentionGuidance, StableDiffusionXLAutoBlocks

import tiny_parts
import tiny_pipeline
from diffusers_nested import add_nested_subjects
from tiny_pipeline import photo

TOLERANCE = 2e-5  # of pictures in 0..1, float32; without guidance a subject changes them little
STEPS = 3


def cfg() -> Any:
    return ClassifierFreeGuidance(guidance_scale=3.0)


def pag() -> Any:
    layers = LayerSkipConfig(indices=[0], fqn="mid_block.attentions.0.transformer_blocks")
    return PerturbedAttentionGuidance(
        guidance_scale=3.0,
        perturbed_guidance_scale=4.0,
        perturbed_guidance_start=0.0,
        perturbed_guidance_stop=1.0,
        perturbed_guidance_config=layers,
    )


def off() -> Any:
    return ClassifierFreeGuidance(guidance_scale=1.0)


# guider -> the conditions of the UNet's calls, step by step; diffusers never perturbs the first step
GUIDERS = {"cfg": (cfg, "cu cu cu"), "pag": (pag, "cu cuc cuc"), "off": (off, "c c c")}


def no_parts(unet: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Task:
    """A workflow of SDXL's blocks, with what its call needs beside the prompt."""

    inputs: Callable[[], dict[str, Any]] = dict
    parts: Callable[[Any], dict[str, Any]] = no_parts
    unet: dict[str, Any] = field(default_factory=dict)
    steps: int = STEPS


TASKS = {
    "text2image": Task(),
    "image2image": Task(redraw, steps=2),
    "inpainting": Task(inpaint, steps=2),
    "controlnet_text2image": Task(controlled(dict), tiny_parts.controlnet),
    "controlnet_inpainting": Task(controlled(inpaint), tiny_parts.controlnet, steps=2),
}
TEXT = TASKS["text2image"]


def build(task: Task = TEXT, guider: Callable[[], Any] = cfg, blocks: Any = None) -> Any:
    """A pipeline of SDXL's blocks; the same weights every time."""
    pipeline = (StableDiffusionXLAutoBlocks() if blocks is None else blocks).init_pipeline()
    parts = tiny_pipeline.components(**task.unet)
    named = {**parts, **task.parts(parts["unet"]), "guider": guider()}
    pipeline.update_components(**{name: part for name, part in named.items() if name in pipeline.component_names})
    return pipeline


def nested(task: Task = TEXT, guider: Callable[[], Any] = cfg) -> Any:
    return build(task, guider, add_nested_subjects(StableDiffusionXLAutoBlocks()))


def run(pipeline: Any, task: Task = TEXT, **keywords: Any) -> np.ndarray:
    """Generate with fixed noise; pictures (N, 16, 16, 3) in 0..1."""
    settings = {"prompt": PROMPT, "num_inference_steps": STEPS, "output_type": "np"}
    seeded = {"generator": torch.Generator().manual_seed(0)}
    return np.asarray(pipeline(output="images", **{**settings, **task.inputs(), **seeded, **keywords}))


def formula(rows: list, calls: str, task: Task = TEXT, guider: Callable[[], Any] = cfg, **keywords: Any) -> np.ndarray:
    """The plain pipeline's pictures with the formula; ``calls`` says which calls of the UNet have the prompt."""
    pipeline, order, number = build(task, guider), calls.replace(" ", ""), []
    pipeline.unet.register_forward_pre_hook(lambda *given: number.append(1))
    install(pipeline.unet, lambda count: rows if order[len(number) - 1] == "c" else [[]] * len(rows))
    pictures = run(pipeline, task, **keywords)
    assert len(number) == len(order)
    return pictures


def person(adapters, prompt: str = PROMPT, **values: Any) -> Any:
    return brute_subject_of(adapters["person"], [photo(1)], prompt, **values)
