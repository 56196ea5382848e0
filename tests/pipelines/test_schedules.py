"""Subjects that act in a part of the denoising steps only."""

import numpy as np
import pytest
from brute_force import brute_subject_of, install
from cases import CASES, PROMPT
from diffusers import HeunDiscreteScheduler

from diffusers_nested import Subject, SubjectError
from tiny_pipeline import photo

CASE = CASES[0]
STEPS = 5
TOLERANCE = 1e-4


@pytest.fixture
def pipeline(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def run(pipeline, *subjects, **keywords):
    return CASE.run(pipeline, nested_adapter_image=list(subjects), num_inference_steps=STEPS, **keywords)


def formula(when, **keywords):
    """The plain pipeline with the formula; ``when`` gives the subjects of the n-th call of the UNet."""
    plain, calls = CASE.build(), []
    install(plain.unet, lambda count: [[], when(len(calls) - 1)])
    plain.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    return CASE.run(plain, num_inference_steps=STEPS, **keywords)


@pytest.mark.parametrize(
    ("start", "end", "acting"),
    [(0.0, 0.4, {0, 1}), (0.6, 1.0, {3, 4}), (0.2, 0.8, {1, 2, 3}), (0.1, 0.75, {1, 2}), (0.0, 1.0, set(range(5)))],
)
def test_a_subject_acts_between_start_and_end(pipeline, adapters, start, end, acting):
    ours = run(pipeline, Subject(photo(1), token="person", start=start, end=end))
    made = brute_subject_of(adapters["person"], [photo(1)])
    expected = formula(lambda step: [made] if step in acting else [])
    assert np.abs(ours - expected).max() < TOLERANCE


def test_two_subjects_may_take_turns(pipeline, adapters):
    ours = run(pipeline, Subject(photo(1), token="person", end=0.4), Subject(photo(2), token="pet", start=0.4))
    person = brute_subject_of(adapters["person"], [photo(1)])
    pet = brute_subject_of(adapters["pet"], [photo(2)], PROMPT, "pet")
    assert np.abs(ours - formula(lambda step: [person] if step < 2 else [pet])).max() < TOLERANCE


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_steps_are_those_of_the_loop(pipeline, adapters):
    # Heun's scheduler calls the UNet twice in all but the last step
    pipeline.scheduler = HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    calls = []
    handle = pipeline.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    run(pipeline, Subject(photo(1), token="person"))
    handle.remove()
    acting = {i for i in range(len(calls)) if (i + 1) / len(calls) <= 0.5}
    made = brute_subject_of(adapters["person"], [photo(1)])
    ours = run(pipeline, Subject(photo(1), token="person", end=0.5))
    plain, seen = CASE.build(), []
    plain.scheduler = pipeline.scheduler
    install(plain.unet, lambda count: [[], [made] if len(seen) - 1 in acting else []])
    plain.unet.register_forward_pre_hook(lambda *given: seen.append(1))
    assert np.abs(ours - CASE.run(plain, num_inference_steps=STEPS)).max() < TOLERANCE


def test_a_second_call_starts_anew(pipeline):
    subject = Subject(photo(1), token="person", end=0.4)
    assert np.array_equal(run(pipeline, subject), run(pipeline, subject))


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.5), ("0", 1.0), (0.0, None)])
def test_bad_parts_are_refused(pipeline, start, end):
    with pytest.raises(SubjectError):
        run(pipeline, Subject(photo(1), token="person", start=start, end=end))


def test_a_subject_that_would_act_in_no_step_is_refused(pipeline):
    with pytest.raises(SubjectError):
        run(pipeline, Subject(photo(1), token="person", start=0.45, end=0.55))
