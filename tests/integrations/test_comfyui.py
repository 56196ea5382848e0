"""The nodes of ComfyUI act as our pipelines do."""

from dataclasses import replace
from typing import Any

import comfyui_stand_in as comfyui
import pytest
import torch
from comfyui_world import apply, image, run

import ip_adapter_files
import tiny_pipeline
from diffusers_nested import Subject
from diffusers_nested.backbones import BACKBONES
from diffusers_nested.backbones.base import BaseModel, Transformers
from integrations.comfyui import nodes


def picture_mask() -> torch.Tensor:
    mask = torch.zeros(16, 24)
    mask[:, 5:16] = 1
    return mask


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one photo": ({}, {}),
    "raised": ({"scale": 2.5}, {"scale": 2.5}),
    "blended": ({"scale": 0.4}, {"scale": 0.4}),
    "two photos": ({"image": image(3, 4)}, {"image": [tiny_pipeline.photo(3), tiny_pipeline.photo(4)]}),
    "mask": ({"mask": picture_mask()[None]}, {"mask": picture_mask()}),
    "another word": ({"word": "pet"}, {"token": "pet"}),
}


@pytest.mark.parametrize("inputs, ours", CASES.values(), ids=CASES)
def test_acts_as_our_pipeline(world, inputs, ours):
    (step,) = world.recorded(nested_adapter_image=Subject(**{"image": tiny_pipeline.photo(3), **ours}))
    torch.testing.assert_close(run(world, apply(world, **inputs), step), step[4], atol=1e-4, rtol=0)
    assert (run(world, world.model(), step) - step[4]).abs().max() > 1e-3


def test_a_word_that_is_located_from_step_to_step_acts_as_in_our_pipeline(world, tmp_path):
    made = tiny_pipeline.adapter(world.parts["unet"], mechanism="located", alpha=None)
    folder = tiny_pipeline.save_adapter(tmp_path / "adapter", made)
    world.pipe.load_nested_adapter(folder, adapter_name="other")
    try:
        subject = Subject(image=tiny_pipeline.photo(3), token="person", adapter_name="other")
        steps = world.recorded(nested_adapter_image=subject, num_inference_steps=2)
    finally:
        world.pipe.unload_nested_adapter("other")
    model = apply(world, adapter=nodes.LoadNestedAdapter().load("", str(folder))[0])
    for step in steps:
        torch.testing.assert_close(run(world, model, step), step[4], atol=1e-4, rtol=0)


def test_an_ip_adapters_file_acts_at_a_word_as_in_our_pipeline(world, tmp_path, monkeypatch):
    tiny = tuple(
        Transformers(block, count, depth=1, width=width)
        for block, count, width in (
            ("down_blocks.0", 1, 32),
            ("down_blocks.1", 1, 64),
            ("up_blocks.0", 2, 64),
            ("up_blocks.1", 2, 32),
            ("mid_block", 1, 64),
        )
    )
    # known by the shapes of the weights, as SDXL is
    known = replace(BACKBONES["sdxl"], base_models=(BaseModel("Tiny SDXL", None, 40, tiny),))
    monkeypatch.setitem(BACKBONES, "sdxl", known)
    ip_adapter_files.repository(tmp_path, world.parts["unet"])
    where = {"subfolder": "sdxl_models", "weight_name": "base.safetensors"}
    world.pipe.load_nested_adapter(tmp_path, adapter_name="other", **where)
    try:
        subject = Subject(image=tiny_pipeline.photo(3), token="person", adapter_name="other", scale=0.8)
        (step,) = world.recorded(nested_adapter_image=subject)
    finally:
        world.pipe.unload_nested_adapter("other")
    file = tmp_path / "sdxl_models" / "base.safetensors"
    adapter = nodes.LoadNestedAdapter().load("", str(file))[0]
    model = apply(world, adapter=adapter, scale=0.8)
    torch.testing.assert_close(run(world, model, step), step[4], atol=1e-4, rtol=0)


def test_photos_are_blended_by_their_weights_as_in_our_pipeline(world):
    both = [tiny_pipeline.photo(3), tiny_pipeline.photo(4)]
    (step,) = world.recorded(nested_adapter_image=Subject(image=both, image_weights=[1.0, 0.25]))
    blend = nodes.BlendNestedAdapterPhotos()
    photos = blend.blend(image(4), 0.25, blend.blend(image(3), 1.0)[0])[0]
    out = run(world, apply(world, image=None, photos=photos), step)
    torch.testing.assert_close(out, step[4], atol=1e-4, rtol=0)


def test_several_subjects_act_together_as_in_our_pipeline(world):
    (step,) = world.recorded(
        nested_adapter_image=[
            Subject(image=tiny_pipeline.photo(3), token="person"),
            Subject(image=tiny_pipeline.photo(4), token="pet", scale=1.5),
        ]
    )
    one = apply(world)
    both = apply(world, one, word="pet", image=image(4), scale=1.5)
    torch.testing.assert_close(run(world, both, step), step[4], atol=1e-4, rtol=0)
    # the first model keeps its one subject
    assert not torch.allclose(run(world, one, step), step[4], atol=1e-3)


def test_half_precision(world, step):
    x, t, states, more, _ = step
    unet = tiny_pipeline.components(norm_num_groups=32)["unet"].to(torch.bfloat16)
    halved = (x.bfloat16(), t, states, {name: value.bfloat16() for name, value in more.items()}, None)
    model = apply(world, comfyui.ModelPatcher(unet))
    out = run(world, model, halved)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), run(world, apply(world), step), atol=0.1, rtol=0)
