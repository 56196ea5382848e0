"""The pipelines under the contract tests. To add one, add a line to CASES."""

import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import tiny_parts
import tiny_pipeline
from diffusers_nested.mechanisms import MECHANISMS

PROMPT = "a photo of a person walking a pet in the snow"


def no_parts(unet: Any) -> dict[str, Any]:
    return {}


def picture() -> dict[str, Any]:
    return {"image": tiny_pipeline.photo(7)}


def redraw() -> dict[str, Any]:
    return {**picture(), "strength": 0.8}


def inpaint() -> dict[str, Any]:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 255
    return {**redraw(), "mask_image": Image.fromarray(mask)}


def controlled(inputs: Callable[[], dict[str, Any]], **more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**inputs(), "control_image": tiny_pipeline.photo(8), **more}


@dataclass(frozen=True, eq=False)
class Case:
    """A pipeline class, what its call needs beside the prompt, and how its parts differ from its family's."""

    name: str
    inputs: Callable[[], dict[str, Any]] = dict
    # Made for the UNet: arguments of the class beside its family's.
    parts: Callable[[Any], dict[str, Any]] = no_parts
    family: str = "sdxl"
    unet: Mapping[str, Any] = field(default_factory=dict)
    # The order of the UNet's rows with guidance, for the brute-force formula: "u" and "c".
    rows: str = "uc"
    # Every row comes once per frame.
    frames: int = 1
    # Its image has to come once per "prompt" or per "picture", instead of once.
    image_per: str = ""
    label: str = ""
    # Of the adapters that act in it.
    mechanism: str = "nested"
    # Title of a contract -> why this pipeline cannot be asked to keep it.
    without: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name + self.label

    @property
    def cls(self) -> type:
        return getattr(diffusers, self.name)

    def takes(self, argument: str) -> bool:
        return argument in inspect.signature(self.cls.__call__).parameters

    def build(self) -> Any:
        """The pipeline with a UNet of its own; the same weights every time."""
        # the UNet and the scheduler are all that a call or an adapter may change
        pipeline = self.cls(**{**_parts_of(self), **_copies_of(self)()})
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def run(self, pipeline: Any, **keywords: Any) -> np.ndarray:
        """Generate with fixed noise; pictures or frames (N, 16, 16, 3) in 0..1."""
        settings = {"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np", "guidance_scale": 3.0}
        optional = {"height": 16, "width": 16, "num_frames": self.frames}
        settings.update({name: value for name, value in optional.items() if self.takes(name)})
        seeded = {"generator": torch.Generator().manual_seed(0)}
        settings.update(self._inputs(keywords))
        out = pipeline(**{**settings, **seeded, **keywords})
        return (out.frames if "frames" in out else out.images).reshape(-1, 16, 16, 3)

    def _inputs(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        inputs, prompts = self.inputs(), keywords.get("prompt")
        count = len(prompts) if isinstance(prompts, list) else 1
        if self.image_per == "picture":
            count *= keywords.get("num_images_per_prompt", 1)
        return {**inputs, "image": [inputs["image"]] * count} if self.image_per else inputs

    def plain(self) -> np.ndarray:
        """What ``run`` gives without an adapter."""
        return _plain_picture(self)


@cache
def _parts_of(case: Case) -> dict[str, Any]:
    parts = tiny_pipeline.FAMILIES[case.family](**case.unet)
    settings = {"add_watermarker": False, "requires_safety_checker": False}
    taken = inspect.signature(case.cls).parameters
    return {name: part for name, part in {**parts, **settings}.items() if name in taken} | case.parts(parts["unet"])


@cache
def _copies_of(case: Case) -> Callable[[], dict[str, Any]]:
    """Copies the parts of the case that change, as ``deepcopy`` does, in a fifth of its time."""
    tensors, written = [], BytesIO()

    def remember(part: Any) -> int | None:
        if not isinstance(part, torch.Tensor):
            return None
        tensors.append(part)
        return len(tensors) - 1

    pickler = pickle.Pickler(written, pickle.HIGHEST_PROTOCOL)
    pickler.persistent_id = remember
    pickler.dump({name: _parts_of(case)[name] for name in ("unet", "scheduler")})

    def copies() -> dict[str, Any]:
        unpickler = pickle.Unpickler(BytesIO(written.getvalue()))
        unpickler.persistent_load = lambda number: deepcopy(tensors[number])
        return unpickler.load()

    return copies


@cache
def _plain_picture(case: Case) -> np.ndarray:
    return case.run(case.build())


def _xl(kind: str, *values: Any, **more: Any) -> Case:
    return Case(f"StableDiffusionXL{kind}Pipeline", *values, **more)


def _sd(kind: str, *values: Any, **more: Any) -> Case:
    return Case(f"StableDiffusion{kind}Pipeline", *values, **more, family="sd15")


_UNION = {"control_mode": [1]}
GUESS_FAILS = {"Guess mode": "diffusers 0.42 itself fails in guess mode"}
GUESS_IGNORED = {"Guess mode": "diffusers 0.42 itself ignores `guess_mode`"}

CASES = [
    _xl(""),
    _xl("Img2Img", redraw),
    _xl("Inpaint", inpaint),
    _xl("Inpaint", inpaint, unet={"in_channels": 9}, label=" with 9 channels"),
    _xl("ControlNet", picture, tiny_parts.controlnet),
    _xl("ControlNetImg2Img", controlled(redraw), tiny_parts.controlnet),
    _xl("ControlNetInpaint", controlled(inpaint), tiny_parts.controlnet),
    _xl("ControlNetUnion", controlled(dict, **_UNION), tiny_parts.controlnet_union, without=GUESS_FAILS),
    _xl("ControlNetUnionImg2Img", controlled(redraw, **_UNION), tiny_parts.controlnet_union, without=GUESS_FAILS),
    _xl("ControlNetUnionInpaint", controlled(inpaint, **_UNION), tiny_parts.controlnet_union, without=GUESS_FAILS),
    _xl("Adapter", picture, tiny_parts.t2i_adapter, image_per="prompt"),
    _xl("InstructPix2Pix", picture, unet={"in_channels": 8}, rows="cuu", image_per="picture"),
    _xl("PAG", dict, tiny_parts.pag, rows="ucc"),
    _xl("PAGImg2Img", redraw, tiny_parts.pag, rows="ucc"),
    _xl("PAGInpaint", inpaint, tiny_parts.pag, rows="ucc"),
    _xl("ControlNetPAG", picture, tiny_parts.controlnet_pag, rows="ucc"),
    _xl("ControlNetPAGImg2Img", controlled(redraw), tiny_parts.controlnet_pag, rows="ucc", without=GUESS_IGNORED),
    Case("AnimateDiffSDXLPipeline", parts=tiny_parts.motion_adapter, frames=2),
    _sd(""),
    _sd("Img2Img", redraw, image_per="picture"),
    _sd("Inpaint", inpaint),
    _sd("ControlNet", picture, tiny_parts.controlnet),
    _sd("ControlNetImg2Img", controlled(redraw), tiny_parts.controlnet, image_per="picture"),
    _sd("ControlNetInpaint", controlled(inpaint), tiny_parts.controlnet),
    _sd("PAG", dict, tiny_parts.pag, rows="ucc"),
    _sd("PAGImg2Img", redraw, tiny_parts.pag, rows="ucc", image_per="picture"),
    _sd("PAGInpaint", inpaint, tiny_parts.pag, rows="ucc"),
    _sd("ControlNetPAG", picture, tiny_parts.controlnet_pag, rows="ucc", without=GUESS_FAILS),
    _sd("ControlNetPAGInpaint", controlled(inpaint), tiny_parts.controlnet_pag, rows="ucc"),
    Case("AnimateDiffPipeline", parts=tiny_parts.motion_adapter, frames=2, family="sd15"),
]

BY_MECHANISM = [_xl("", label=f" by {name}", mechanism=name) for name in MECHANISMS if name != "nested"]
# One of each kind of rows, inputs, parts and frames; the others are variants of these.
KINDS = {
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInpaintPipeline with 9 channels",
    "StableDiffusionXLControlNetPipeline",
    "StableDiffusionXLAdapterPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionXLPAGPipeline",
    "AnimateDiffSDXLPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
}


def _all_of(cases: Iterable[Case]) -> list[Any]:
    """The cases as parameters, of which variants are slow."""
    return [case if str(case) in KINDS or case.label else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def every_pipeline(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrises a test by ``case``."""
    return pytest.mark.parametrize("case", _all_of(cases), ids=str)


EVERY_PIPELINE = every_pipeline(CASES)
EVERY_PIPELINE_AND_MECHANISM = every_pipeline(CASES + BY_MECHANISM)
