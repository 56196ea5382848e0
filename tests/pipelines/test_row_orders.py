"""The prompt's rows are found in every batch that a pipeline can make, whatever their order."""

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, with_formula
from cases import EVERY_PIPELINE, EVERY_PIPELINE_AND_MECHANISM, PROMPT

from diffusers_nested import Subject
from tiny_pipeline import photo

TOLERANCE = 1e-4  # of pictures in 0..1, float32
WITH_THE_WORD = "blurry person walking a pet"
PROMPTS = ["a person in the snow", "a watercolor of a person on the beach"]


@pytest.fixture
def adapters(case, adapters_of):
    """Folders of adapters of the case's mechanism and family."""
    return adapters_of(case.mechanism, case.family)


def check(case, nested, adapters, prompts=(PROMPT,), order="", images=1, **keywords):
    """A call with one subject in each prompt, against the formula."""
    keywords["prompt"] = list(prompts) if len(prompts) > 1 else prompts[0]
    subjects = [[brute_subject_of(adapters["person"], [photo(1)], prompt)] for prompt in prompts]
    ours = case.run(nested, nested_adapter_image=photo(1), **keywords)
    theirs = case.run(with_formula(case, subjects, order, images), **keywords)
    assert len(ours) == len(prompts) * images * case.frames
    assert np.abs(ours - theirs).max() < TOLERANCE


@EVERY_PIPELINE
@pytest.mark.contract("Guidance off")
def test_guidance_off(case, nested, adapters):
    """Without guidance, so that no row is unconditional."""
    check(case, nested, adapters, order=case.rows.replace("u", ""), guidance_scale=1.0)


@EVERY_PIPELINE
@pytest.mark.contract("Negative prompt")
def test_a_negative_prompt_with_the_word(case, nested, adapters):
    """A negative prompt that contains the subject's word does not get the subject."""
    check(case, nested, adapters, negative_prompt=WITH_THE_WORD)


@EVERY_PIPELINE_AND_MECHANISM
@pytest.mark.contract("Unconditional")
def test_unconditional_rows_are_untouched(case, adapters):
    """The UNet's outputs for unconditional rows are the plain pipeline's, bit for bit; those of the prompt differ."""
    pipeline = case.build()
    outputs = []
    pipeline.unet.register_forward_hook(lambda module, args, out: outputs.append(out[0].clone()))
    negative = {"negative_prompt": WITH_THE_WORD, "num_inference_steps": 1}
    if case.takes("strength"):
        negative["strength"] = 1.0
    case.run(pipeline, **negative)
    pipeline.load_nested_adapter(adapters["person"])
    case.run(pipeline, nested_adapter_image=photo(1), **negative)
    for kind, before, after in zip(case.rows, *(out.chunk(len(case.rows)) for out in outputs), strict=True):
        assert torch.equal(before, after) == (kind == "u")


@EVERY_PIPELINE
@pytest.mark.contract("Images per prompt", needs="num_images_per_prompt")
def test_images_per_prompt(case, nested, adapters):
    """Two pictures per prompt."""
    check(case, nested, adapters, images=2, num_images_per_prompt=2)


@EVERY_PIPELINE
@pytest.mark.contract("Prompts")
def test_prompts_with_the_word_at_different_places(case, nested, adapters):
    """A list of prompts in which the word stands at different places, with one subject for all."""
    check(case, nested, adapters, PROMPTS)


@EVERY_PIPELINE
@pytest.mark.contract("Prompts × images", needs="num_images_per_prompt")
def test_prompts_with_images_per_prompt(case, nested, adapters):
    """The same with two pictures per prompt and negative prompts that contain the word."""
    check(case, nested, adapters, PROMPTS, images=2, num_images_per_prompt=2, negative_prompt=[WITH_THE_WORD, "blurry"])


@EVERY_PIPELINE
@pytest.mark.contract("Prompts, no guidance")
def test_prompts_without_guidance(case, nested, adapters):
    """The same without guidance."""
    check(case, nested, adapters, PROMPTS, order=case.rows.replace("u", ""), guidance_scale=1.0)


@EVERY_PIPELINE_AND_MECHANISM
@pytest.mark.contract("Own subjects")
def test_a_subject_of_its_own_per_prompt(case, nested, adapters):
    """A list of prompts with a subject each, also if the prompts have the same words."""
    prompts, images, scales = [*PROMPTS, PROMPTS[0]], [photo(1), photo(2), photo(3)], [0.5, 1.0, 3.0]
    given = [[Subject(image, scale=scale)] for image, scale in zip(images, scales, strict=True)]
    subjects = [
        [brute_subject_of(adapters["person"], [image], prompt, scale=scale)]
        for image, prompt, scale in zip(images, prompts, scales, strict=True)
    ]
    ours = case.run(nested, prompt=prompts, nested_adapter_image=given)
    assert np.abs(ours - case.run(with_formula(case, subjects), prompt=prompts)).max() < TOLERANCE
    mixed_up = case.run(with_formula(case, subjects[::-1]), prompt=prompts)
    assert np.abs(ours - mixed_up).max() > 10 * TOLERANCE


@EVERY_PIPELINE
@pytest.mark.contract("Guess mode", needs="guess_mode")
def test_guess_mode(case, nested, adapters):
    """A ControlNet that sees the prompt's rows only."""
    check(case, nested, adapters, guess_mode=True)
