"""Prompts in every form that SDXL takes: textual inversion, embeddings of any length, two prompts, other loops."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install
from cases import CASES, PROMPT
from diffusers import LCMScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

import tiny_pipeline
from diffusers_nested import PromptTokenError, Subject
from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4


def subject_at(adapters, *positions, word="person"):
    made = brute_subject_of(adapters[word], [photo(1)])
    made.positions = positions
    return made


def formula(pipeline, *subjects, guided=True, **keywords):
    """A plain pipeline's picture with the formula, one list of subjects per prompt."""
    install(pipeline.unet, lambda count: [[]] * (len(subjects) * guided) + list(subjects))
    return CASE.run(pipeline, **keywords)


def loaded(pipeline, adapters):
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def close(left, right):
    return left.shape == right.shape and np.abs(left - right).max() < TOLERANCE


def with_inversions(vectors=(1, 3), vectors_2=None):
    """A pipeline that knows <one> and <many>, of so many vectors in the first and the second tokenizer."""
    parts = deepcopy(tiny_pipeline.components())
    parts["tokenizer_2"] = deepcopy(parts["tokenizer"])
    pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(41)
    sides = ("tokenizer", "text_encoder", vectors), ("tokenizer_2", "text_encoder_2", vectors_2 or vectors)
    for tokenizer, encoder, counts in sides:
        side = {"tokenizer": getattr(pipeline, tokenizer), "text_encoder": getattr(pipeline, encoder)}
        for token, count in zip(("<one>", "<many>"), counts, strict=True):
            width = side["text_encoder"].config.hidden_size
            pipeline.load_textual_inversion({token: torch.randn(count, width)}, token=token, **side)
    return pipeline


@pytest.mark.parametrize(
    ("prompt", "word", "positions"),
    [
        ("a <one> and a person in the snow", "person", (5,)),
        ("a <many> and a person in the snow", "person", (7,)),
        ("a person and a <many> in the snow", "person", (2,)),
        ("a person and a <many> and a person", "person", (2, 10)),
        ("a photo of <one> in the snow", "<one>", (4,)),
        ("a photo of <many> in the snow", "<many>", (4, 5, 6)),
    ],
)
def test_words_beside_textual_inversion_and_of_it(prompt, word, positions, adapters):
    pipeline = loaded(with_inversions(), adapters)
    ours = CASE.run(pipeline, prompt=prompt, nested_adapter_image=Subject(photo(1), token=word, adapter_name="person"))
    assert close(ours, formula(with_inversions(), [subject_at(adapters, *positions)], prompt=prompt))
    shifted = [position + 1 for position in positions]
    assert not close(ours, formula(with_inversions(), [subject_at(adapters, *shifted)], prompt=prompt))


def test_textual_inversion_that_shifts_the_prompts_apart_is_refused(adapters):
    pipeline = loaded(with_inversions((1, 2), (1, 3)), adapters)
    with pytest.raises(PromptTokenError):
        CASE.run(pipeline, prompt="a <many> and a person", nested_adapter_image=photo(1), nested_adapter_token="person")
    before = "a person and a <many>"  # is at the same place in both
    ours = CASE.run(pipeline, prompt=before, nested_adapter_image={"person": photo(1)})
    assert close(ours, formula(with_inversions((1, 2), (1, 3)), [subject_at(adapters, 2)], prompt=before))


def embedded(pipeline, prompts, chunks=1, factor=1.0):
    """Arguments of a call with embeddings, of so many times 77 positions, as prompt weighting makes them."""
    made = [pipeline.encode_prompt(text, negative_prompt="blurry") for text in prompts]
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    tensors = {name: torch.cat([one[i] for one in made]) for i, name in enumerate(names)}
    for name in names[:2]:
        tensors[name] = factor * torch.cat([tensors[name], *([tensors[name].flip(-1)] * (chunks - 1))], 1)
    return {"prompt": None, **tensors}


@pytest.mark.parametrize(("chunks", "positions"), [(1, (5,)), (2, (5, 100)), (3, (200,))])
def test_embeddings_of_any_length(chunks, positions, adapters):
    pipeline = loaded(CASE.build(), adapters)
    given = embedded(pipeline, [PROMPT], chunks, factor=1.1)
    assert given["prompt_embeds"].shape[1] == 77 * chunks
    subject = Subject(photo(1), adapter_name="person", token_indices=positions)
    ours = CASE.run(pipeline, nested_adapter_image=subject, **given)
    assert close(ours, formula(CASE.build(), [subject_at(adapters, *positions)], **given))
    assert not close(ours, CASE.run(pipeline, **given))


def test_embeddings_of_two_prompts_with_subjects_of_their_own(adapters):
    pipeline = loaded(CASE.build(), adapters)
    given = embedded(pipeline, ["a person in the snow", "a photo of a pet"])
    subjects = [
        [Subject(photo(1), adapter_name="person", token_indices=[2])],
        [Subject(photo(1), adapter_name="pet", token_indices=[5])],
    ]
    ours = CASE.run(pipeline, nested_adapter_image=subjects, **given)
    theirs = [subject_at(adapters, 2)], [subject_at(adapters, 5, word="pet")]
    assert close(ours, formula(CASE.build(), *theirs, **given))


def test_positions_beyond_the_embeddings_are_refused(adapters):
    pipeline = loaded(CASE.build(), adapters)
    with pytest.raises(PromptTokenError):
        subject = Subject(photo(1), adapter_name="person", token_indices=[154])
        CASE.run(pipeline, nested_adapter_image=subject, **embedded(pipeline, [PROMPT], 2))


@pytest.mark.parametrize(
    ("positions", "guided", "keywords"),
    [
        ((5,), True, {"prompt_2": "a watercolor of a person on the beach"}),
        ((5,), True, {"clip_skip": 1}),
        ((5,), False, {"guidance_scale": 1.0, "negative_prompt": "a person"}),
        ((5,), True, {"guidance_rescale": 0.7}),
        ((2, 5), True, {"prompt": "a person and a person"}),
        ((3,), True, {"prompt": "a PERSON'S person in the snow", "prompt_2": "a king's person on the beach"}),
    ][:5],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_arguments_of_the_call(positions, guided, keywords, adapters):
    ours = CASE.run(loaded(CASE.build(), adapters), nested_adapter_image={"person": photo(1)}, **keywords)
    assert close(ours, formula(CASE.build(), [subject_at(adapters, *positions)], guided=guided, **keywords))


def test_prompts_in_which_the_word_moves_are_refused(adapters):
    with pytest.raises(PromptTokenError):
        prompts = {"prompt": "a person in the snow", "prompt_2": "a photo of a person"}
        CASE.run(loaded(CASE.build(), adapters), nested_adapter_image={"person": photo(1)}, **prompts)


def test_a_distilled_unet_without_unconditional_rows(adapters, tmp_path):
    def build():
        parts = tiny_pipeline.components(time_cond_proj_dim=8)
        parts["scheduler"] = LCMScheduler(beta_schedule="scaled_linear", original_inference_steps=50)
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    ours = CASE.run(loaded(build(), adapters), nested_adapter_image={"person": photo(1)}, guidance_scale=8.0)
    assert close(ours, formula(build(), [subject_at(adapters, 5)], guided=False, guidance_scale=8.0))


def test_a_base_pipeline_hands_over_to_another_on_its_unet(adapters):
    def both(base, **subject):
        rest = StableDiffusionXLImg2ImgPipeline.from_pipe(base)
        rest.set_progress_bar_config(disable=True)
        shared = {"prompt": PROMPT, "num_inference_steps": 4, "guidance_scale": 3.0, **subject}
        seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        size = {"height": 16, "width": 16}
        latents = base(**shared, **size, denoising_end=0.5, output_type="latent", generator=seeds[0]).images
        return rest(**shared, image=latents, denoising_start=0.5, output_type="np", generator=seeds[1]).images

    plain = CASE.build()
    install(plain.unet, lambda count: [[], [subject_at(adapters, 5)]])
    ours = both(loaded(CASE.build(), adapters), nested_adapter_image={"person": photo(1)})
    assert close(ours, both(plain))
    assert not close(ours, both(CASE.build()))
