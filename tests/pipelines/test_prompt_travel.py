"""Callbacks that go on with another prompt: every prompt that is encoded on the way has positions of its own."""

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install
from cases import CASES, PROMPT

from diffusers_nested import PromptTokenError, RowsNotFoundError, Subject, SubjectError
from tiny_pipeline import photo

CASE = CASES[0]
STEPS = 4
SWITCH = 1  # the step after which the other prompt is in force
THERE = "a person on the beach"  # the word stands elsewhere than in PROMPT
NOWHERE = "a photo of the snow"
TOLERANCE = 1e-4
PERSON = {"person": photo(1)}


@pytest.fixture(scope="module")
def pipeline(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def on_the_way(*prompts, hands_on=True, write_in_place=False, once=True, **settings):
    """Keywords of a call whose callback encodes other prompts; the last one is handed on."""

    def callback(pipe, step, timestep, tensors):
        if step != SWITCH and once:
            return tensors
        encoded = [pipe.encode_prompt(prompt, **settings)[:2] for prompt in prompts]
        embeds = torch.cat(encoded[-1][::-1])
        if hands_on and write_in_place:
            tensors["prompt_embeds"].copy_(embeds)
        elif hands_on:
            tensors["prompt_embeds"] = embeds
        return tensors

    return {
        "callback_on_step_end": callback,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
        "num_inference_steps": STEPS,
    }


@pytest.fixture(scope="module")
def formula(adapters):
    """The plain pipeline with the formula: the word's positions are those of the prompt in force."""
    plain, calls = CASE.build(), []
    made = [brute_subject_of(adapters["person"], [photo(1)], prompt) for prompt in (PROMPT, THERE)]
    install(plain.unet, lambda count: [[], [made[len(calls) - 1 > SWITCH]]])
    plain.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    return CASE.run(plain, **on_the_way(THERE))


@pytest.fixture(scope="module")
def steady(pipeline):
    """The picture of a call that keeps its prompt."""
    return CASE.run(pipeline, nested_adapter_image=PERSON, num_inference_steps=STEPS)


@pytest.mark.parametrize("write_in_place", [False, True], ids=["handed on", "in place"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
def test_the_subject_stands_at_the_word_of_the_prompt_in_force(pipeline, formula, mode, write_in_place):
    keywords = on_the_way(THERE, write_in_place=write_in_place)
    with mode():
        ours = CASE.run(pipeline, nested_adapter_image=PERSON, **keywords)
    assert np.abs(ours - formula).max() < TOLERANCE


def test_several_prompts_encoded_and_the_last_one_handed_on(pipeline, formula):
    keywords = on_the_way(NOWHERE, "person", THERE)
    ours = CASE.run(pipeline, nested_adapter_image=PERSON, **keywords)
    assert np.abs(ours - formula).max() < TOLERANCE


@pytest.mark.parametrize("prompt", [THERE, NOWHERE, PROMPT])
def test_encoding_alone_changes_nothing(pipeline, steady, prompt):
    keywords = on_the_way(prompt, hands_on=False, once=False)
    ours = CASE.run(pipeline, nested_adapter_image=PERSON, **keywords)
    assert np.array_equal(ours, steady)


def test_the_same_prompt_handed_on(pipeline, steady):
    ours = CASE.run(pipeline, nested_adapter_image=PERSON, **on_the_way(PROMPT))
    assert np.array_equal(ours, steady)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("write_in_place", [False, True], ids=["handed on", "in place"])
def test_a_prompt_without_the_word_is_refused_once_it_is_in_force(pipeline, mode, write_in_place):
    with mode(), pytest.raises(PromptTokenError, match="'person' is not in the prompt"):
        CASE.run(pipeline, nested_adapter_image=PERSON, **on_the_way(NOWHERE, write_in_place=write_in_place))


def test_two_subjects_travel_together(pipeline, adapters):
    keywords = on_the_way("a pet and a person in the snow")
    subjects = {"person": photo(1), "pet": photo(2)}
    plain, calls = CASE.build(), []
    made = [
        [
            brute_subject_of(adapters["person"], [photo(1)], prompt),
            brute_subject_of(adapters["pet"], [photo(2)], prompt, "pet"),
        ]
        for prompt in (PROMPT, "a pet and a person in the snow")
    ]
    install(plain.unet, lambda count: [[], made[len(calls) - 1 > SWITCH]])
    plain.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    ours = CASE.run(pipeline, nested_adapter_image=subjects, **keywords)
    assert np.abs(ours - CASE.run(plain, **keywords)).max() < TOLERANCE


def test_a_batch_travels_prompt_by_prompt(pipeline, adapters):
    first, then = [PROMPT, "a person in the snow"], [THERE, "a watercolor of a person"]
    keywords = on_the_way(then)
    plain, calls = CASE.build(), []
    made = [[brute_subject_of(adapters["person"], [photo(1)], one) for one in prompts] for prompts in (first, then)]
    install(plain.unet, lambda count: [[], [], *([one] for one in made[len(calls) - 1 > SWITCH])])
    plain.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    ours = CASE.run(pipeline, prompt=first, nested_adapter_image=PERSON, **keywords)
    assert np.abs(ours - CASE.run(plain, prompt=first, **keywords)).max() < TOLERANCE


def test_fewer_prompts_than_the_batch_are_refused_if_their_subjects_differ(pipeline):
    people = [{"person": photo(1)}, {"person": photo(2)}]

    def repeat(pipe, step, timestep, tensors):
        positive, negative, _, _ = pipe.encode_prompt(THERE)
        return {"prompt_embeds": torch.cat([negative.repeat(2, 1, 1), positive.repeat(2, 1, 1)])}

    keywords = on_the_way() | {"callback_on_step_end": repeat, "prompt": [PROMPT, PROMPT]}
    assert CASE.run(pipeline, nested_adapter_image=PERSON, **keywords).any()
    with pytest.raises(SubjectError, match="during a call"):
        CASE.run(pipeline, nested_adapter_image=people, **keywords)


def test_positions_given_by_number_do_not_travel(pipeline):
    subject = Subject(photo(1), token="person", token_indices=[5])
    with pytest.raises(SubjectError, match="token_indices"):
        CASE.run(pipeline, nested_adapter_image=subject, **on_the_way(THERE))
    assert CASE.run(pipeline, nested_adapter_image=subject, **on_the_way(THERE, hands_on=False)).any()


def test_embeddings_of_unknown_origin_are_refused(pipeline):
    embeds = pipeline.encode_prompt(THERE)[0]  # before the call, which therefore knows nothing of it

    def callback(pipe, step, timestep, tensors):
        return {"prompt_embeds": torch.cat([tensors["prompt_embeds"][:1], embeds])[1:].repeat(2, 1, 1)}

    with pytest.raises(RowsNotFoundError, match=r"pipe\.encode_prompt"):
        CASE.run(pipeline, nested_adapter_image=PERSON, **on_the_way() | {"callback_on_step_end": callback})


def test_a_pipeline_that_changes_its_prompt_before_it_is_encoded(adapters):
    class Prefixed(CASE.cls):
        def encode_prompt(self, prompt, *args, **kwargs):
            return super().encode_prompt(prompt, *args, **kwargs)

        def __call__(self, prompt, **kwargs):
            return super().__call__(f"a watercolor of a {prompt}", **kwargs)

    built = CASE.build()
    pipeline = Prefixed(**built.components, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_nested_adapter(adapters["person"])
    ours = CASE.run(pipeline, prompt="person in the snow", nested_adapter_image=PERSON)
    whole = "a watercolor of a person in the snow"
    made = brute_subject_of(adapters["person"], [photo(1)], whole)
    plain = CASE.build()
    install(plain.unet, lambda count: [[], [made]])
    assert np.abs(ours - CASE.run(plain, prompt=whole)).max() < TOLERANCE
