"""Subjects that act in a part of the denoising steps only."""

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install
from cases import CASES, EVERY_PIPELINE, PROMPT
from diffusers import DDIMScheduler, HeunDiscreteScheduler

from diffusers_nested import RowsNotFoundError, Subject, SubjectError
from diffusers_nested.backbones import cross_attention_layers
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


def steps_seen(pipeline, run):
    """What a cross-attention layer did in each call of the UNet: the words at which subjects acted."""
    seen, layer = [], next(iter(cross_attention_layers(pipeline.unet).values()))

    def look(module, args, output):
        groups = getattr(module.processor, "acting", ())
        seen.append({int(one.positions[0].argmax()) for group in groups for one in group.subjects})

    handle = layer.register_forward_hook(look)
    run()
    handle.remove()
    return seen


WORDS = PROMPT.split()
FIRST, SECOND = WORDS.index("person") + 1, WORDS.index("pet") + 1  # positions, after the start token


MOTION = next(case for case in CASES if case.name == "AnimateDiffSDXLPipeline")
TWICE = [case for case in CASES if case.name in ("StableDiffusionXLPipeline", "StableDiffusionXLControlNetPipeline")]


@EVERY_PIPELINE
def test_the_same_steps_in_every_pipeline(case, adapters_of):
    """With one prediction of the UNet for every step."""
    check_the_same_steps(case, DDIMScheduler, adapters_of)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("case", TWICE, ids=str)
def test_the_same_steps_with_two_predictions_each(case, adapters_of):
    check_the_same_steps(case, HeunDiscreteScheduler, adapters_of)


def check_the_same_steps(case, scheduler, adapters_of):
    """One subject in the first half of the steps taken, another in the second, whether denoising ends early or not."""
    pipeline, adapters = case.build(), adapters_of(case.mechanism, case.family)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    subjects = [Subject(photo(1), token="person", end=0.5), Subject(photo(2), token="pet", start=0.5)]
    keywords = {"num_inference_steps": 5, "nested_adapter_image": subjects}
    ends = (None, 0.6) if case.takes("denoising_end") else (None,)
    counts = []
    for end in ends:
        seen = steps_seen(
            pipeline, lambda end=end: case.run(pipeline, **keywords, **({} if end is None else {"denoising_end": end}))
        )
        counts.append(taken := len(seen))
        assert seen == [
            {FIRST} if 2 * (i + 1) <= taken else {SECOND} if 2 * i >= taken else set() for i in range(taken)
        ]
    assert min(counts) > 1
    assert len(set(counts)) == len(ends)


@pytest.mark.parametrize("fast", [False, True], ids=["every step", "fast sampling"])
def test_each_loop_of_free_init_begins_anew(adapters, fast):
    case = MOTION
    pipeline = case.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    pipeline.enable_free_init(num_iters=2, use_fast_sampling=fast)
    subjects = [Subject(photo(1), token="person", end=0.5), Subject(photo(2), token="pet", start=0.5)]
    seen = steps_seen(pipeline, lambda: case.run(pipeline, num_inference_steps=4, nested_adapter_image=subjects))
    loop = [{FIRST}, {FIRST}, {SECOND}, {SECOND}]
    assert seen == ([{FIRST}, {SECOND}] if fast else loop) + loop


def test_a_subject_that_acts_in_no_loop_is_refused(adapters):
    case = MOTION
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.enable_free_init(num_iters=2, use_fast_sampling=True)
    # in the second loop only, of four steps
    assert case.run(pipeline, num_inference_steps=4, nested_adapter_image=Subject(photo(1), end=0.25)).any()
    with pytest.raises(SubjectError, match="none of the 4 denoising steps"):
        case.run(pipeline, num_inference_steps=4, nested_adapter_image=Subject(photo(1), end=0.1))


def test_a_call_without_a_step_says_why(adapters):
    case = next(case for case in CASES if case.name == "StableDiffusionXLImg2ImgPipeline")
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    with pytest.raises(RowsNotFoundError, match="no denoising step"):
        case.run(pipeline, strength=0.1, nested_adapter_image=photo(1))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_batch_that_is_split_inside_the_unet_is_refused(adapters, guidance):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    whole = pipeline.unet.forward

    def row_by_row(sample, timestep, encoder_hidden_states, added_cond_kwargs, **keywords):
        rows = [
            whole(
                sample[i : i + 1],
                timestep,
                encoder_hidden_states[i : i + 1],
                added_cond_kwargs={name: x[i : i + 1] for name, x in added_cond_kwargs.items()},
                **keywords,
            )[0]
            for i in range(len(sample))
        ]
        return (torch.cat(rows),)

    pipeline.unet.forward = row_by_row
    keywords = {"num_images_per_prompt": 2, "guidance_scale": guidance}
    assert CASE.run(pipeline, **keywords).any()
    with pytest.raises(RowsNotFoundError, match="splits the batch"):
        CASE.run(pipeline, nested_adapter_image=photo(1), **keywords)
