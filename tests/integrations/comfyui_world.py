"""A tiny SDXL in a pipeline of ours and in ComfyUI's form, and steps of both."""

from functools import cached_property
from pathlib import Path
from typing import Any

import comfyui_stand_in as comfyui
import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline
from integrations.comfyui import nodes

PROMPT = "a photo of a person walking a pet in the snow"
NEGATIVE = "blurry low quality person"
KEPT = ("text_embeds", "time_ids")


class World:
    """A tiny SDXL, in a pipeline of ours and in ComfyUI's form, with an adapter in a folder."""

    def __init__(self, models: Path) -> None:
        self.parts = tiny_pipeline.components(norm_num_groups=32)
        self.pipe: Any = StableDiffusionXLPipeline(**self.parts)
        self.pipe.set_progress_bar_config(disable=True)
        self.folder = models / "nested_adapters" / "humans"
        tiny_pipeline.save_adapter(self.folder, tiny_pipeline.adapter(self.parts["unet"]))
        self.pipe.load_nested_adapter(self.folder)
        self.tokenizer = comfyui.Tokenizer(g=self.parts["tokenizer_2"], l=self.parts["tokenizer"])
        self.clip = comfyui.Clip(self.tokenizer, self.encode)
        self.prompts: dict[str, Any] = {}

    def encode(self, text: str) -> torch.Tensor:
        return self.pipe.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)[0]

    def model(self) -> comfyui.ModelPatcher:
        return comfyui.ModelPatcher(self.parts["unet"])

    def prompt(self, text: str) -> Any:
        if text not in self.prompts:
            self.prompts[text] = nodes.NestedAdapterPrompt().encode(self.clip, text)[0]
        return self.prompts[text]

    @cached_property
    def adapter(self) -> Any:
        return nodes.LoadNestedAdapter().load("humans")[0]

    def recorded(self, **subjects: Any) -> list[tuple[Any, ...]]:
        """What our pipeline's UNet gets and gives in each step: latents, time, embeddings, conditions, output."""
        unet, steps = self.parts["unet"], []

        def record(module: Any, args: Any, kwargs: Any, out: Any) -> None:
            states, more = kwargs["encoder_hidden_states"], kwargs["added_cond_kwargs"]
            steps.append((args[0].clone(), args[1], states, {k: more[k] for k in KEPT}, out[0].clone()))

        hook = unet.register_forward_hook(record, with_kwargs=True)
        settings = {"num_inference_steps": 1, "output_type": "latent", "height": 16, "width": 24, **subjects}
        try:
            seed = torch.Generator().manual_seed(5)
            self.pipe(PROMPT, negative_prompt=NEGATIVE, generator=seed, **settings)
        finally:
            hook.remove()
        return steps


def image(*seeds: int) -> torch.Tensor:
    """ComfyUI's batch of pictures."""
    photos = [np.asarray(tiny_pipeline.photo(seed), np.float32) / 255 for seed in seeds]
    return torch.from_numpy(np.stack(photos))


def apply(world: World, model: Any = None, positive: Any = None, **inputs: Any) -> Any:
    model = world.model() if model is None else model
    positive = world.prompt(PROMPT) if positive is None else positive
    inputs = {"adapter": world.adapter, "image": image(3), **inputs}
    return nodes.ApplyNestedAdapter().apply(model, positive=positive, **inputs)[0]


def run(world: World, model: Any, step: tuple[Any, ...], positive: Any = None, negative: Any = None, sigma=5.0) -> Any:
    """One step in ComfyUI's form, as our pipeline orders rows: [negative, positive]."""
    x, t, _, more, _ = step
    half = len(x) // 2
    positive = world.prompt(PROMPT) if positive is None else positive
    negative = world.prompt(NEGATIVE) if negative is None else negative
    conditions = {name: (value[half:], value[:half]) for name, value in more.items()}
    with torch.inference_mode():
        out = comfyui.denoise(model, positive, negative, x[half:], sigma, t, conditions)
    return torch.cat([out[-1], out[0]])
