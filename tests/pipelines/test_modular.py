"""SDXL in Modular Diffusers: one call of the UNet per condition, under several guiders."""

import numpy as np
import pytest
from brute_force import brute_subject_of
from cases import PROMPT
from diffusers import ClassifierFreeGuidance, SequentialPipelineBlocks, StableDiffusionXLAutoBlocks
from modular_sdxl import GUIDERS, STEPS, TASKS, TOLERANCE, build, cfg, formula, nested, person, run

from diffusers_nested import PromptTokenError, RowsNotFoundError, Subject, add_nested_subjects
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

WITH_THE_WORD = "blurry photo of a person"
PROMPTS = [PROMPT, "a watercolor of a king and a person on the beach"]


@pytest.fixture
def pipeline(adapters):
    pipeline = nested()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("guider", GUIDERS)
def test_equals_the_formula(adapters, guider, scale):
    make, calls = GUIDERS[guider]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    ours.set_nested_adapter_scale(scale)
    pictures = run(ours, nested_adapter_image=photo(1))
    expected = formula([[person(adapters, scale=scale)]], calls, guider=make)
    assert np.abs(pictures - expected).max() < TOLERANCE
    assert np.abs(pictures - run(build(guider=make))).max() > 5 * TOLERANCE


def test_maps_of_words_last_from_call_to_call(adapters_of):
    make, calls = GUIDERS["pag"]
    ours, adapters = nested(guider=make), adapters_of("located")
    ours.load_nested_adapter(adapters["person"])
    expected = formula([[person(adapters)]], calls, guider=make)
    assert np.abs(run(ours, nested_adapter_image=photo(1)) - expected).max() < TOLERANCE


def test_perturbed_calls_have_the_subject_and_are_perturbed(adapters):
    make, calls = GUIDERS["pag"]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    pictures = run(ours, nested_adapter_image=photo(1))
    without = formula([[person(adapters)]], calls.replace("cuc", "cuu"), guider=make)
    assert np.abs(pictures - without).max() > 5 * TOLERANCE
    ours.update_components(guider=cfg())
    assert np.abs(pictures - run(ours, nested_adapter_image=photo(1))).max() > 5 * TOLERANCE


@pytest.mark.parametrize("name", TASKS)
def test_every_task_equals_the_formula(adapters, name):
    task = TASKS[name]
    ours = nested(task)
    ours.load_nested_adapter(adapters["person"])
    pictures = run(ours, task, nested_adapter_image=photo(1))
    expected = formula([[person(adapters)]], "cu" * task.steps, task)
    assert np.abs(pictures - expected).max() < TOLERANCE
    assert np.abs(pictures - run(build(task), task)).max() > 5 * TOLERANCE


@pytest.mark.parametrize("guider", GUIDERS)
def test_without_keywords_it_is_the_plain_pipeline(adapters, guider):
    make, _ = GUIDERS[guider]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    plain = run(build(guider=make))
    assert np.array_equal(run(ours), plain)
    ours.set_nested_adapter_scale(0.0)
    assert np.array_equal(run(ours, nested_adapter_image=photo(1)), plain)


def test_two_subjects_and_two_photos(pipeline, adapters):
    ours = run(pipeline, nested_adapter_image={"person": photo(1), "pet": [photo(2), photo(3)]})
    pet = brute_subject_of(adapters["pet"], [photo(2), photo(3)], word="pet")
    assert np.abs(ours - formula([[person(adapters), pet]], "cu" * STEPS)).max() < TOLERANCE


def test_another_word_and_embeddings(pipeline, adapters):
    embeds = pipeline.encode_nested_adapter_image(photo(1), "person")
    subject = person(adapters, word="pet")
    ours = run(pipeline, nested_adapter_image_embeds=Subject(image_embeds=embeds, token="pet", adapter_name="person"))
    assert np.abs(ours - formula([[subject]], "cu" * STEPS)).max() < TOLERANCE
    pipeline.unload_nested_adapter("pet")
    ours = run(pipeline, nested_adapter_image=photo(1), nested_adapter_token="pet")
    assert np.abs(ours - formula([[subject]], "cu" * STEPS)).max() < TOLERANCE


@pytest.mark.parametrize("guider", GUIDERS)
def test_prompts_with_two_pictures_each(adapters, guider):
    make, calls = GUIDERS[guider]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    keywords = {"prompt": PROMPTS, "num_images_per_prompt": 2, "negative_prompt": [WITH_THE_WORD, "blurry"]}
    images = [photo(1), photo(2)]
    pictures = run(ours, nested_adapter_image=[{"person": image} for image in images], **keywords)
    rows = [
        [brute_subject_of(adapters["person"], [image], prompt)]
        for image, prompt in zip(images, PROMPTS, strict=True)
        for _ in range(2)
    ]
    assert np.abs(pictures - formula(rows, calls, guider=make, **keywords)).max() < TOLERANCE
    assert np.abs(pictures - formula(rows[::-1], calls, guider=make, **keywords)).max() > 5 * TOLERANCE


def test_a_negative_prompt_with_the_word_has_no_subject(pipeline, adapters):
    keywords = {"negative_prompt": WITH_THE_WORD}
    ours = run(pipeline, nested_adapter_image={"person": photo(1)}, **keywords)
    assert np.abs(ours - formula([[person(adapters)]], "cu" * STEPS, **keywords)).max() < TOLERANCE


@pytest.mark.parametrize("name", ["text2image", "image2image"])
def test_parts_of_the_steps_are_those_of_the_loop(adapters, name):
    task = TASKS[name]
    ours = nested(task)
    ours.load_nested_adapter(adapters["person"])
    # of text2image's 3 steps and of image2image's 2 it is the first; of the 3 in the scheduler it would be none
    pictures = run(ours, task, nested_adapter_image=Subject(photo(1), end=0.5))
    calls = "cu" + "uu" * (task.steps - 1)
    assert np.abs(pictures - formula([[person(adapters)]], calls, task)).max() < TOLERANCE


def test_encoded_by_another_pipeline(adapters):
    blocks = add_nested_subjects(StableDiffusionXLAutoBlocks())
    encoding = build(blocks=SequentialPipelineBlocks.from_blocks_dict({"text": blocks.sub_blocks.pop("text_encoder")}))
    denoising = build(blocks=blocks)
    denoising.load_nested_adapter(adapters["person"])
    keywords = {"prompt": PROMPTS, "negative_prompt": [WITH_THE_WORD, "blurry"]}
    names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    embeds = encoding(output=names, **keywords)
    given = [[Subject(photo(1), token_indices=[5])], [Subject(photo(1), token_indices=[8])]]
    subjects = [[person(adapters, prompt)] for prompt in PROMPTS for _ in range(2)]
    pictures = run(denoising, nested_adapter_image=given, num_images_per_prompt=2, **embeds)
    expected = formula(subjects, "cu" * STEPS, num_images_per_prompt=2, **keywords)
    assert np.abs(pictures - expected).max() < TOLERANCE
    with pytest.raises(PromptTokenError):
        run(denoising, nested_adapter_image=photo(1), **embeds)


def test_an_exception_while_denoising_releases_the_subjects(pipeline):
    plain, hooks = run(pipeline), len(pipeline.unet._forward_pre_hooks)

    def fail(module, args, output):
        raise KeyboardInterrupt

    handle = pipeline.unet.mid_block.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, nested_adapter_image={"person": photo(1)})
    handle.remove()
    assert all(not layer.processor.acting for layer in cross_attention_layers(pipeline.unet).values())
    assert len(pipeline.unet._forward_pre_hooks) == hooks
    assert np.array_equal(run(pipeline), plain)


def test_other_rows_than_the_prompts_are_refused(pipeline):
    # a guider that changes the embeddings would have the subjects act nowhere
    class Changing(ClassifierFreeGuidance):
        def prepare_inputs(self, data):
            positive, negative = data["prompt_embeds"]
            return super().prepare_inputs({**data, "prompt_embeds": (positive + 0.1, negative)})

    pipeline.update_components(guider=Changing(guidance_scale=3.0))
    with pytest.raises(RowsNotFoundError):
        run(pipeline, nested_adapter_image={"person": photo(1)})


def test_the_subjects_stay_beside_what_diffusers_puts_in_for_ip_adapters(pipeline, adapters):
    pipeline.unload_ip_adapter()  # makes new processors for every layer, as loading does
    ours = run(pipeline, nested_adapter_image={"person": photo(1)})
    assert np.abs(ours - formula([[person(adapters)]], "cu" * STEPS)).max() < TOLERANCE
