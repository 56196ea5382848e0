"""Validation pictures during training: every validation image with every validation prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import make_image_grid
from PIL import Image, ImageOps

from ..adapter import NestedAdapter
from ..data import load_image
from ..files.write_whole import write_whole
from ..injection import NestedInjector
from ..pipelines.state import require_state
from ..vision import ImageEncoder, ImageEncoders, read_images
from .config import TrainingConfig


@dataclass(frozen=True, eq=False)
class Validation:
    """Everything needed for validation pictures.

    Attributes:
        pipeline: Makes them.
        image_encoder: Reads the images.
        images: The subjects; none for no pictures.
        injector: Ejected from the UNet meanwhile, as the pipeline injects its own.
    """

    pipeline: Any
    image_encoder: ImageEncoder | ImageEncoders
    images: Sequence[Any]
    injector: NestedInjector

    def draw(self, path: Path, adapter: NestedAdapter, config: TrainingConfig) -> None:
        """Save a sheet of pictures made with the adapter's current weights."""
        self.injector.eject()
        try:
            sheet = validation_sheet(
                self.pipeline,
                adapter,
                self.image_encoder,
                self.images,
                config.validation_prompts,
                config.resolution,
                config.seed,
            )
        finally:
            self.injector.inject()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda to: sheet.save(to, "PNG"))


@torch.no_grad()
def validation_sheet(
    pipeline: Any,
    adapter: NestedAdapter,
    image_encoder: ImageEncoder | ImageEncoders,
    images: Sequence[Any],
    prompts: Sequence[str],
    resolution: int,
    seed: int,
) -> Image.Image:
    """A sheet with a row per image: the image itself, then one picture per prompt, all from the same noise."""
    opened = [load_image(image) for image in images]
    tokens = adapter.encode(read_images(image_encoder, opened, adapter.image_features).to(adapter.dtype))
    rows = []
    pipeline.load_nested_adapter(adapter, image_encoder_folder=None)
    pipeline.set_nested_adapter_cache(0)  # the next time, the adapter is another one
    try:
        require_state(pipeline).require().encoder = image_encoder  # for the empty image that some mechanisms read
        for image, embeds in zip(opened, tokens.split(1), strict=True):
            made = [_generate(pipeline, prompt, embeds, resolution, seed) for prompt in prompts]
            rows.append([ImageOps.fit(image, (resolution, resolution)), *made])
    finally:
        pipeline.unload_nested_adapter()
    return make_image_grid([picture for row in rows for picture in row], rows=len(rows), cols=len(rows[0]))


def _generate(pipeline: Any, prompt: str, embeds: torch.Tensor, resolution: int, seed: int) -> Image.Image:
    return pipeline(
        prompt,
        nested_adapter_image_embeds=embeds,
        height=resolution,
        width=resolution,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]
