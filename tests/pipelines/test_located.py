"""The mechanism "located", whose maps of words follow their pictures through repeated, dropped and reordered rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install, with_formula
from cases import CASES
from diffusers.models.attention_processor import AttnProcessor
from torch._dynamo.testing import CompileCounter

from diffusers_nested import Subject
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

TOLERANCE = 1e-4
SCENE = "a {} of a person walking a pet in the snow"
IMAGES = {"person": photo(1), "pet": photo(2)}
ROWS = ("StableDiffusionXLPAGPipeline", "StableDiffusionXLInstructPix2PixPipeline", "AnimateDiffPipeline")
CASE = replace(CASES[0], mechanism="located")
ODD = [replace(case, mechanism="located") for case in CASES if case.name in ROWS]


def loaded(case, adapters_of):
    pipeline, adapters = case.build(), adapters_of("located", case.family)
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline, adapters


def both(adapters):
    return [brute_subject_of(adapters["person"], [photo(1)]), brute_subject_of(adapters["pet"], [photo(2)], word="pet")]


@pytest.mark.parametrize("case", ODD, ids=str)
def test_rows_and_frames_of_a_picture_have_its_maps(case, adapters_of):
    pipeline, adapters = loaded(case, adapters_of)
    ours = case.run(pipeline, nested_adapter_image=IMAGES)
    assert np.abs(ours - case.run(with_formula(case, [both(adapters)]))).max() < TOLERANCE


def test_pictures_of_a_batch_have_their_own_maps(adapters_of):
    pipeline, adapters = loaded(CASE, adapters_of)
    prompts = [SCENE.format("photo"), SCENE.format("watercolor")]
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    given = {"num_images_per_prompt": 2, "latents": noise}
    ours = CASE.run(pipeline, prompt=prompts, nested_adapter_image=[IMAGES, IMAGES], **given)
    expected = CASE.run(with_formula(CASE, [both(adapters)] * 2, images=2), prompt=prompts, **given)
    assert np.abs(ours - expected).max() < TOLERANCE


def test_maps_last_when_rows_are_dropped(adapters_of):
    pipeline, adapters = loaded(CASE, adapters_of)

    def cut_off(pipe, step, timestep, tensors):
        if step == 1:
            pipe._guidance_scale = 0.0
            for name in ("prompt_embeds", "add_text_embeds", "add_time_ids"):
                tensors[name] = tensors[name][-1:]
        return tensors

    names = ["prompt_embeds", "add_text_embeds", "add_time_ids"]
    keywords = {
        "callback_on_step_end": cut_off,
        "callback_on_step_end_tensor_inputs": names,
        "num_inference_steps": 4,
    }
    ours = CASE.run(pipeline, nested_adapter_image=IMAGES, **keywords)
    plain, made = CASE.build(), both(adapters)
    install(plain.unet, lambda count: [[], made] if count == 2 else [made])
    assert np.abs(ours - CASE.run(plain, **keywords)).max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("processor", [None, AttnProcessor()], ids=["replaced", "beside"])
def test_a_compiled_unet_needs_no_new_graph_from_step_to_step(processor, adapters_of):
    torch._dynamo.reset()
    pipeline, counter = CASE.build(), CompileCounter()
    for layer in cross_attention_layers(pipeline.unet).values():
        layer.set_processor(layer.processor if processor is None else processor)
    pipeline.load_nested_adapter(list(adapters_of("located").values()))
    eager = CASE.run(pipeline, nested_adapter_image=IMAGES)
    pipeline.unet.compile_repeated_blocks(backend=counter, fullgraph=True)
    CASE.run(pipeline, nested_adapter_image=IMAGES, num_inference_steps=1)
    first = counter.frame_count
    compiled = CASE.run(pipeline, nested_adapter_image=IMAGES)
    assert 0 < first == counter.frame_count
    assert np.abs(compiled - eager).max() < TOLERANCE
    torch._dynamo.reset()


def test_a_subject_that_is_off_takes_no_place_and_one_to_come_none_yet(adapters_of):
    pipeline, _ = loaded(CASE, adapters_of)
    steps = {"num_inference_steps": 4}
    person = Subject(photo(1), token="person")
    alone = CASE.run(pipeline, nested_adapter_image=[person], **steps)
    off = Subject(photo(2), token="pet", scale=0.0)
    assert np.array_equal(alone, CASE.run(pipeline, nested_adapter_image=[person, off], **steps))
    both_on = CASE.run(pipeline, nested_adapter_image=IMAGES, **steps)
    assert not np.array_equal(alone, both_on)
    before: list[torch.Tensor] = []

    def keep(pipe, step, timestep, tensors):
        before.append(tensors["latents"].clone())
        return {}

    CASE.run(pipeline, nested_adapter_image=[person], **steps, callback_on_step_end=keep)
    late = Subject(photo(2), token="pet", start=0.75)
    CASE.run(pipeline, nested_adapter_image=[person, late], **steps, callback_on_step_end=keep)
    assert all(torch.equal(one, other) for one, other in zip(before[:3], before[4:7], strict=True))
    assert not torch.equal(before[3], before[7])
