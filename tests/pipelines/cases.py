"""The pipelines under the contract tests. To add one, add a line to CASES."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

import tiny_pipeline

PROMPT = "a photo of a person walking a pet in the snow"


def picture_inputs() -> dict[str, Any]:
    return {"image": tiny_pipeline.photo(7), "strength": 0.8}


def inpaint_inputs() -> dict[str, Any]:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 255
    return {**picture_inputs(), "mask_image": Image.fromarray(mask)}


@dataclass(frozen=True)
class Case:
    """A pipeline class, what its call needs beside the prompt, and how its UNet differs."""

    name: str
    inputs: Callable[[], dict[str, Any]] = dict
    unet: dict[str, Any] = field(default_factory=dict)
    # The order of the UNet's rows with guidance, for the brute-force formula: "u" and "c".
    rows: str = "uc"
    label: str = ""

    def __str__(self) -> str:
        return self.name + self.label

    def build(self, **changes: Any) -> Any:
        """The pipeline with fresh components; the same weights every time."""
        parts = tiny_pipeline.components(**self.unet)
        pipeline = getattr(diffusers, self.name)(**{**parts, **changes}, add_watermarker=False)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def run(self, pipeline: Any, **keywords: Any) -> np.ndarray:
        """Generate with fixed noise; pictures (N, 16, 16, 3) in 0..1."""
        settings = {"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np", "guidance_scale": 3.0}
        seeded = {"generator": torch.Generator().manual_seed(0), "height": 16, "width": 16}
        if self.inputs is picture_inputs:
            del seeded["height"], seeded["width"]
        return pipeline(**{**settings, **seeded, **self.inputs(), **keywords}).images


CASES = [
    Case("StableDiffusionXLPipeline"),
    Case("StableDiffusionXLImg2ImgPipeline", picture_inputs),
    Case("StableDiffusionXLInpaintPipeline", inpaint_inputs),
    Case("StableDiffusionXLInpaintPipeline", inpaint_inputs, {"in_channels": 9}, label=" with 9 channels"),
]
