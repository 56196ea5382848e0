"""Callbacks at the end of a step: those of diffusers, and those that turn our scale."""

import numpy as np
import pytest
from addons import add_image_encoder, install_beside, load_ip_adapters
from brute_force import brute_subject_of, install
from cases import CASES
from diffusers.callbacks import (
    IPAdapterScaleCutoffCallback,
    MultiPipelineCallbacks,
    SDXLCFGCutoffCallback,
    SDXLControlnetCFGCutoffCallback,
)

from diffusers_nested import NestedAdapterError, RowsNotFoundError, Subject
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
CONTROLLED = next(case for case in CASES if case.name == "StableDiffusionXLControlNetPipeline")
STEPS = 4
CUTOFF = 1  # the step after which there is no guidance, or another scale
TOLERANCE = 1e-4


def run(case, pipeline, **keywords):
    return case.run(pipeline, num_inference_steps=STEPS, **keywords)


def nested(case, adapters):
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    return pipeline


def cutoff(cls):
    return cls(cutoff_step_ratio=None, cutoff_step_index=CUTOFF)


def after(act):
    """A callback that acts once, at the end of the step."""

    def callback(pipeline, step, timestep, tensors):
        if step == CUTOFF:
            tensors.update(act(pipeline, tensors) or {})
        return tensors

    return callback


@pytest.mark.parametrize(
    ("case", "cls"),
    [(CASE, SDXLCFGCutoffCallback), (CONTROLLED, SDXLControlnetCFGCutoffCallback)],
    ids=["plain", "ControlNet"],
)
def test_the_end_of_guidance(case, cls, adapters):
    made, batches = brute_subject_of(adapters["person"], [photo(1)], scale=2.0), []

    def rows_of(count):
        batches.append(count)
        return [[], [made]][-count:]

    plain, pipeline = case.build(), nested(case, adapters)
    install(plain.unet, rows_of)
    pipeline.set_nested_adapter_scale(2.0)
    ours = run(case, pipeline, nested_adapter_image=photo(1), callback_on_step_end=cutoff(cls))
    assert np.abs(ours - run(case, plain, callback_on_step_end=cutoff(cls))).max() < TOLERANCE
    layers = len(cross_attention_layers(plain.unet))
    assert batches == [2] * layers * (CUTOFF + 1) + [1] * layers * (STEPS - CUTOFF - 1)


def test_the_end_of_guidance_in_a_batch_fails_as_it_does_without_us(adapters):
    # the callback keeps the last prompt only, for latents of two
    keywords = {"prompt": ["a person in the snow", "a person on the beach"]}
    keywords["callback_on_step_end"] = cutoff(SDXLCFGCutoffCallback)
    with pytest.raises(RuntimeError):
        run(CASE, CASE.build(), **keywords)
    with pytest.raises(RowsNotFoundError):
        run(CASE, nested(CASE, adapters), nested_adapter_image=photo(1), **keywords)


def test_an_end_of_guidance_that_keeps_all_prompts(adapters):
    prompts = ["a person in the snow", "a photo of a person on the beach"]
    made = [brute_subject_of(adapters["person"], [photo(1)], prompt) for prompt in prompts]

    def keep_prompts(pipeline, tensors):
        pipeline._guidance_scale = 0.0
        return {name: tensor[-2:] for name, tensor in tensors.items()}

    keywords = {"prompt": prompts, "callback_on_step_end": after(keep_prompts)}
    keywords["callback_on_step_end_tensor_inputs"] = SDXLCFGCutoffCallback.tensor_inputs
    plain = CASE.build()
    install(plain.unet, lambda count: [[], [], [made[0]], [made[1]]][-count:])
    ours = run(CASE, nested(CASE, adapters), nested_adapter_image=photo(1), **keywords)
    assert np.abs(ours - run(CASE, plain, **keywords)).max() < TOLERANCE


@pytest.mark.parametrize(("first", "then"), [(1.0, 3.0), (2.0, 0.0), (0.0, 2.0), (0.3, 1.0)])
def test_a_scale_turned_in_the_middle(first, then, adapters):
    made = brute_subject_of(adapters["person"], [photo(1)], scale=first)
    plain, pipeline = CASE.build(), nested(CASE, adapters)
    install(plain.unet, lambda count: [[], [made]])
    theirs = run(CASE, plain, callback_on_step_end=after(lambda pipe, tensors: setattr(made, "scale", then)))
    pipeline.set_nested_adapter_scale(first)
    turn = after(lambda pipe, tensors: pipe.set_nested_adapter_scale(then))
    ours = run(CASE, pipeline, nested_adapter_image=photo(1), callback_on_step_end=turn)
    assert np.abs(ours - theirs).max() < TOLERANCE
    # the scale stays where it was turned
    steady = run(CASE, pipeline, nested_adapter_image=photo(1))
    pipeline.set_nested_adapter_scale(then)
    assert np.array_equal(steady, run(CASE, pipeline, nested_adapter_image=photo(1)))
    assert np.abs(ours - steady).max() > 10 * TOLERANCE


def test_the_end_of_an_ip_adapter_and_of_guidance_at_once(adapters):
    plain, pipeline = add_image_encoder(CASE.build()), add_image_encoder(nested(CASE, adapters))
    load_ip_adapters(plain, 21)
    load_ip_adapters(pipeline, 21)
    made = brute_subject_of(adapters["person"], [photo(1)])
    install_beside(plain.unet, lambda count: [[], [made]][-count:])

    def turn_off(pipe, tensors):
        for layer in cross_attention_layers(pipe.unet).values():
            layer.processor.other.scale = [0.0]

    ours = run(
        CASE,
        pipeline,
        nested_adapter_image=photo(1),
        ip_adapter_image=photo(5),
        callback_on_step_end=cutoff(IPAdapterScaleCutoffCallback),
    )
    theirs = run(CASE, plain, ip_adapter_image=photo(5), callback_on_step_end=after(turn_off))
    assert np.abs(ours - theirs).max() < TOLERANCE


def test_several_callbacks_at_once(adapters):
    made = brute_subject_of(adapters["person"], [photo(1)])
    plain, pipeline = CASE.build(), nested(CASE, adapters)
    install(plain.unet, lambda count: [[], [made]][-count:])
    turns = [after(lambda pipe, tensors: setattr(made, "scale", 2.0)), cutoff(SDXLCFGCutoffCallback)]
    ours_turns = [after(lambda pipe, tensors: pipe.set_nested_adapter_scale(2.0)), cutoff(SDXLCFGCutoffCallback)]
    pictures = []
    for one, callbacks, subject in ((plain, turns, {}), (pipeline, ours_turns, {"nested_adapter_image": photo(1)})):
        callbacks[0].tensor_inputs = []
        pictures.append(run(CASE, one, callback_on_step_end=MultiPipelineCallbacks(callbacks), **subject))
    assert np.abs(pictures[0] - pictures[1]).max() < TOLERANCE


def test_a_subject_that_ends_before_guidance_does(adapters):
    made, calls = brute_subject_of(adapters["person"], [photo(1)]), []
    plain, pipeline = CASE.build(), nested(CASE, adapters)
    plain.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    install(plain.unet, lambda count: [[], [made] if len(calls) <= 3 else []][-count:])
    keywords = {"callback_on_step_end": cutoff(SDXLCFGCutoffCallback)}
    ours = run(CASE, pipeline, nested_adapter_image=Subject(photo(1), end=0.75), **keywords)
    assert np.abs(ours - run(CASE, plain, **keywords)).max() < TOLERANCE


def test_other_prompt_embeddings_are_refused(adapters):
    shift = after(lambda pipe, tensors: {"prompt_embeds": tensors["prompt_embeds"] + 1})
    inputs = {"callback_on_step_end": shift, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with pytest.raises(RowsNotFoundError):
        run(CASE, nested(CASE, adapters), nested_adapter_image=photo(1), **inputs)


def test_another_unet_is_refused(adapters):
    def replace(pipeline, _):
        pipeline.unet = CASE.build().unet
        return {}

    pipeline = nested(CASE, adapters)
    own = pipeline.unet
    with pytest.raises(NestedAdapterError, match=r"pipe\.unet. was replaced during the call"):
        run(CASE, pipeline, nested_adapter_image=photo(1), callback_on_step_end=after(replace))
    pipeline.unet = own
    assert (run(CASE, pipeline) == run(CASE, CASE.build())).all()


def test_embeddings_of_one_picture_that_are_none_of_the_prompts_are_refused(adapters):
    def weigh(pipeline, tensors):
        embeddings = tensors["prompt_embeds"].clone()
        embeddings[-1, 5] *= 1.3
        return {"prompt_embeds": embeddings}

    pipeline = nested(CASE, adapters)
    with pytest.raises(RowsNotFoundError, match=r"picture 2 of 2 .* callback"):
        run(
            CASE,
            pipeline,
            num_images_per_prompt=2,
            nested_adapter_image=photo(1),
            callback_on_step_end=after(weigh),
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
    assert (run(CASE, pipeline) == run(CASE, CASE.build())).all()


def test_copied_prompt_embeddings_are_known(adapters):
    copy = after(lambda pipe, tensors: {"prompt_embeds": tensors["prompt_embeds"].clone()})
    inputs = {"callback_on_step_end": copy, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    pipeline = nested(CASE, adapters)
    ours = run(CASE, pipeline, nested_adapter_image=photo(1), **inputs)
    assert np.array_equal(ours, run(CASE, pipeline, nested_adapter_image=photo(1)))
