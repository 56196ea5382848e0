"""Several calls on one UNet: in threads, and one inside the other's callback. Each has its own subjects only."""

import copy
import threading

import diffusers
import numpy as np
import pytest
import torch
from cases import CASES
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

from diffusers_nested import NestedAdapterError, NestedAdapterMixin
from diffusers_nested.backbones import cross_attention_layers
from diffusers_nested.pipelines.state import require_state
from tiny_pipeline import photo

CASE = CASES[0]
BY_NAME = {case.name: case for case in CASES if not case.label}
STEPS = 2
PERSON, OTHER = {"person": photo(1)}, {"person": photo(2)}


def beside(pipeline, cls=StableDiffusionXLPipeline):
    """Another pipeline on the same UNet, with a scheduler of its own."""
    parts = {**pipeline.components, "scheduler": copy.deepcopy(pipeline.scheduler)}
    other = cls(**parts, add_watermarker=False)
    other.set_progress_bar_config(disable=True)
    return other


@pytest.fixture
def pipeline(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def run(pipeline, image=None, **keywords):
    given = {} if image is None else {"nested_adapter_image": image}
    return BY_NAME[type(pipeline).__name__].run(pipeline, num_inference_steps=STEPS, **given, **keywords)


def in_callback(act):
    """Keywords of a call whose callback does something at the end of the first step."""

    def callback(pipe, step, timestep, tensors):
        if step == 0:
            act()
        return tensors

    return {"callback_on_step_end": callback}


# a pipeline of its own class, one whose class has been changed by loading, the very pipeline that is running
INNER = {
    "never loaded": lambda pipeline: beside(pipeline),
    "another kind": lambda pipeline: beside(pipeline, StableDiffusionXLImg2ImgPipeline),
    "loaded": lambda pipeline: type(pipeline)(
        **{**pipeline.components, "scheduler": copy.deepcopy(pipeline.scheduler)}, add_watermarker=False
    ),
}


@pytest.mark.parametrize(
    ("kind", "image"), [*((kind, None) for kind in INNER), ("never loaded", OTHER), ("loaded", {"pet": photo(3)})]
)
def test_a_call_inside_a_callback(pipeline, kind, image):
    inner = INNER[kind](pipeline)
    inner.set_progress_bar_config(disable=True)
    expected, outer, found = run(inner, image), run(pipeline, PERSON), []
    ours = run(pipeline, PERSON, **in_callback(lambda: found.append(run(inner, image))))
    assert np.array_equal(found[0], expected)
    assert np.array_equal(ours, outer)


def test_another_family_in_a_callback(pipeline):
    class StableDiffusionPipeline(NestedAdapterMixin, diffusers.StableDiffusionPipeline):
        """Has the mixin's encode_prompt, and no second tokenizer."""

    other = BY_NAME["StableDiffusionPipeline"].build()
    expected, outer, found = run(other), run(pipeline, PERSON), []
    other.__class__ = StableDiffusionPipeline

    def act():
        found.append(run(other))
        other.encode_prompt("a pet", "cpu", 1, do_classifier_free_guidance=True)

    assert np.array_equal(run(pipeline, PERSON, **in_callback(act)), outer)
    assert np.array_equal(found[0], expected)


def test_a_call_with_a_subject_inside_a_plain_one(pipeline):
    inner = beside(pipeline)
    expected, plain, found = run(inner, OTHER), run(pipeline), []
    ours = run(pipeline, **in_callback(lambda: found.append(run(inner, OTHER))))
    assert np.array_equal(found[0], expected)
    assert np.array_equal(ours, plain)


def test_a_call_that_fails_inside_a_callback(pipeline):
    outer, inner = run(pipeline, PERSON), beside(pipeline)

    def fail():
        with pytest.raises(NestedAdapterError):
            run(inner, OTHER, prompt="nobody is here")

    assert np.array_equal(run(pipeline, PERSON, **in_callback(fail)), outer)


def test_the_unet_called_by_hand_inside_a_callback(pipeline):
    """Without a prompt of the call in it, no subject acts."""
    states = torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(0))
    more = {"text_embeds": torch.zeros(1, 32), "time_ids": torch.zeros(1, 6)}
    sample = torch.zeros(1, 4, 8, 8)

    def call():
        with torch.no_grad():
            return pipeline.unet(sample, 10, states, added_cond_kwargs=more).sample

    expected, found = call(), []

    def in_thread():
        thread = threading.Thread(target=lambda: found.append(call()))
        thread.start()
        thread.join()

    outer = run(pipeline, PERSON)
    assert np.array_equal(run(pipeline, PERSON, **in_callback(in_thread)), outer)
    assert torch.equal(found[0], expected)


def together(*calls):
    """Run calls in threads of their own, which wait for each other after each step; what each gives, in order."""
    barrier, results = threading.Barrier(len(calls), timeout=60), [None] * len(calls)

    def keep_step(pipe, step, timestep, tensors):
        barrier.wait()
        return tensors

    def work(i, call):
        try:
            barrier.wait()
            results[i] = call(callback_on_step_end=keep_step)
        except Exception as error:
            results[i] = error
            barrier.abort()

    threads = [threading.Thread(target=work, args=(i, call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [
        one for one in results if isinstance(one, Exception) and not isinstance(one, threading.BrokenBarrierError)
    ]
    if failed:
        raise failed[0]
    return results


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        ("never loaded", (PERSON, None)),
        ("loaded", (PERSON, OTHER)),
        ("never loaded", ({"person": photo(1), "pet": photo(3)}, {"pet": photo(2)}, None)),
    ],
    ids=["with a plain one", "two people", "three"],
)
def test_calls_in_threads(pipeline, kind, images):
    pipelines = [pipeline, *(INNER[kind](pipeline) for _ in images[1:])]
    for one in pipelines:
        one.set_progress_bar_config(disable=True)
    expected = [run(one, image) for one, image in zip(pipelines, images, strict=True)]
    calls = [
        lambda one=one, image=image, **keywords: run(one, image, **keywords)
        for one, image in zip(pipelines, images, strict=True)
    ]
    for found, alone in zip(together(*calls), expected, strict=True):
        assert np.array_equal(found, alone)


def test_many_calls_in_threads_that_wait_for_nobody(pipeline):
    images = [None, PERSON, OTHER, {"pet": photo(3)}]
    pipelines = [beside(pipeline) for _ in images]
    expected = [run(one, image) for one, image in zip(pipelines, images, strict=True)]
    wrong = []

    def work(one, image, alone):
        for _ in range(2):
            if not np.array_equal(run(one, image), alone):
                wrong.append(image)

    threads = [threading.Thread(target=work, args=each) for each in zip(pipelines, images, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    left = [layer.processor.acting for layer in cross_attention_layers(pipeline.unet).values()]
    assert not any(left)
    assert "_compiled_call_impl" not in vars(pipeline.unet)


def test_an_adapter_in_use_is_not_unloaded(pipeline):
    outer, seen = run(pipeline, PERSON), []

    def unload():
        with pytest.raises(NestedAdapterError, match="'person' is in use"):
            pipeline.unload_nested_adapter()
        seen.append(list(pipeline.nested_adapters))
        pipeline.unload_nested_adapter("pet")  # which the call does not use

    assert np.array_equal(run(pipeline, PERSON, **in_callback(unload)), outer)
    assert seen == [["person", "pet"]]
    assert list(pipeline.nested_adapters) == ["person"]
    pipeline.unload_nested_adapter()
    assert np.array_equal(run(pipeline), CASE.run(CASE.build(), num_inference_steps=STEPS))


def test_a_copy_made_inside_a_callback(pipeline):
    copies = []
    outer = run(pipeline, PERSON, **in_callback(lambda: copies.append(copy.deepcopy(pipeline.unet))))
    other = beside(pipeline)
    other.unet = copies[0]
    assert np.array_equal(run(other, PERSON), outer)
    assert np.array_equal(run(other), run(pipeline))


def test_an_interrupted_forward_pass_blocks_nobody(pipeline):
    expected = run(pipeline, PERSON)

    def interrupt(module, args):
        raise KeyboardInterrupt

    handle = pipeline.unet.mid_block.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, PERSON)
    handle.remove()
    found = []
    thread = threading.Thread(target=lambda: found.append(run(beside(pipeline), PERSON)), daemon=True)
    thread.start()
    thread.join(60)
    assert np.array_equal(found[0], expected)


def test_subjects_that_fail_to_reach_all_layers_act_in_none_later(pipeline):
    """As when memory ends while rows with subjects of their own are put together."""
    plain, dials = run(pipeline), require_state(pipeline).loaded["person"].dials
    path, dial = dials.popitem()
    with pytest.raises(KeyError):
        run(pipeline, PERSON)
    assert np.array_equal(run(pipeline), plain)
    dials[path] = dial
    assert not np.array_equal(run(pipeline, PERSON), plain)
