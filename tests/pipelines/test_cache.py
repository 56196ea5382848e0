"""Subjects kept between calls: what is computed again and what is not, and that the pictures are the same."""

import copy
import pickle
from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest
import torch
from cases import CASES
from diffusers import LCMScheduler
from test_devices import build

from diffusers_nested import NestedAdapterError, Subject
from diffusers_nested.pipelines.cache import CacheKey, SubjectCache, SubjectReading
from diffusers_nested.pipelines.state import require_state
from tiny_pipeline import photo

CASE = CASES[0]
SUBJECT = {"person": photo(1)}


def run(pipeline, image=None, **keywords):
    image = SUBJECT if image is None else image
    return CASE.run(pipeline, nested_adapter_image=image, **{"num_inference_steps": 1, **keywords})


@contextmanager
def counted(pipeline, name="person"):
    """How often a call runs the vision tower, the Q-Former and the projections of an adapter."""
    model, counts = pipeline.nested_adapters[name], {"tower": 0, "encoder": 0, "projections": 0}
    tower = require_state(pipeline).loaded[name].encoder.model
    one = next(module for path, module in model.projections.named_modules() if path.endswith("attn2"))

    def hook(part):
        def count(*_):
            counts[part] += 1

        return count

    parts = {"tower": tower, "encoder": model.encoder, "projections": one}
    handles = [module.register_forward_hook(hook(part)) for part, module in parts.items()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def runs(pipeline, *args, **keywords):
    """The picture, and what was computed for it."""
    with counted(pipeline) as counts:
        return run(pipeline, *args, **keywords), tuple(counts.values())


@pytest.fixture
def pipeline(adapters):
    return build(adapters)


def test_the_second_call_computes_nothing_again_and_gives_the_same_picture(pipeline, adapters):
    first, counts = runs(pipeline)
    assert counts == (1, 1, 1)
    again, counts = runs(pipeline)
    assert counts == (0, 0, 0)
    assert np.array_equal(again, first)
    pipeline.set_nested_adapter_cache(0)
    fresh, counts = runs(pipeline)
    assert counts == (1, 1, 1) and runs(pipeline)[1] == counts
    assert np.array_equal(fresh, first)


def test_word_scale_weights_and_mask_are_not_kept(pipeline, adapters):
    fresh = build(adapters)
    fresh.set_nested_adapter_cache(0)
    photos, mask = [photo(1), photo(2)], np.zeros((16, 16), np.float32)
    mask[:, :8] = 1
    run(pipeline, Subject(photos, token="person"))
    for given in ({"image_weights": [1.0, 3.0]}, {"scale": 2.0}, {"mask": mask}, {"start": 0.5}):
        subject = Subject(photos, token="person", **given)
        found, counts = runs(pipeline, subject, num_inference_steps=2)
        assert counts == (0, 0, 0)
        assert np.array_equal(found, run(fresh, subject, num_inference_steps=2))
    _, counts = runs(pipeline, Subject(photos, token="pet", adapter_name="person"))
    assert counts == (0, 0, 0)


def write(model, how):
    with torch.no_grad():
        weight = next(model.parameters())
        if how == "in place":
            weight.mul_(1.5)
        else:
            weight.data += 0.5 * weight.data  # as merging a LoRA does; torch does not count it


CHANGES = {
    "another photo": lambda pipe: {"image": {"person": photo(2)}},
    "a photo more": lambda pipe: {"image": {"person": [photo(1), photo(2)]}},
    "adapter, in place": lambda pipe: write(pipe.nested_adapters["person"].encoder, "in place"),
    "adapter, its data": lambda pipe: write(pipe.nested_adapters["person"].projections, "data"),
    "tower, in place": lambda pipe: write(require_state(pipe).loaded["person"].encoder.model, "in place"),
    "tower, its data": lambda pipe: write(require_state(pipe).loaded["person"].encoder.model, "data"),
    "type of the UNet": lambda pipe: torch.nn.Module.to(pipe.unet, torch.float64) and None,
    "type of the adapter": lambda pipe: torch.nn.Module.to(pipe.nested_adapters["person"], torch.float64) and None,
    "storage": lambda pipe: pipe.set_nested_adapter_storage(dtype=torch.int8),
    "a larger cache": lambda pipe: pipe.set_nested_adapter_cache(5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_changes_a_subject_makes_it_stale(change, pipeline):
    project = require_state(pipeline).project
    resolved = []
    require_state(pipeline).project = lambda pipe, subject: resolved.append(subject) or project(pipe, subject)
    run(pipeline)
    given = change(pipeline) or {}
    if given:
        _, counts = runs(pipeline, **given)
    else:  # the projection alone, as types may no longer agree elsewhere
        with counted(pipeline) as counts:
            project(pipeline, resolved[0])
        counts = tuple(counts.values())
    assert counts == (1, 1, 1)
    assert len(require_state(pipeline).cache) == (2 if given else 1)  # the stale one is gone


def filled(size, count):
    cache = SubjectCache(size)
    keys = [CacheKey("person", "state", number) for number in range(count)]
    for key in keys:
        cache.put(key, SubjectReading({}, 5))
    return cache, keys


def test_the_least_recent_subject_is_forgotten():
    cache, (one, two) = filled(2, 2)
    assert cache.get(one) is not None
    three = CacheKey("person", "state", 3)
    cache.put(three, SubjectReading({}, 5))
    assert [cache.get(key) is not None for key in (one, two, three)] == [True, False, True]


def test_embeddings_are_kept_too(pipeline):
    embeds = pipeline.encode_nested_adapter_image(photo(1), "person")
    subject = {"nested_adapter_image": None, "nested_adapter_image_embeds": {"person": embeds}}
    expected = CASE.run(pipeline, num_inference_steps=1, **subject)
    with counted(pipeline) as counts:
        assert np.array_equal(CASE.run(pipeline, num_inference_steps=1, **subject), expected)
    assert tuple(counts.values()) == (0, 0, 0)
    embeds[0, 0, 0] += 1
    with counted(pipeline) as counts:
        assert not np.array_equal(CASE.run(pipeline, num_inference_steps=1, **subject), expected)
    assert tuple(counts.values()) == (0, 0, 1)


def test_an_adapter_in_training_is_not_kept(pipeline):
    pipeline.nested_adapters["person"].train()
    for _ in range(2):
        assert runs(pipeline)[1] == (1, 1, 1)
    assert not len(require_state(pipeline).cache)


def test_an_adapter_with_a_part_in_training_is_not_kept(pipeline):
    pipeline.nested_adapters["person"].encoder.train()  # its dropout acts
    for _ in range(2):
        assert runs(pipeline)[1] == (1, 1, 1)
    assert not len(require_state(pipeline).cache)


def test_tensors_of_inference_mode_stay_in_it(pipeline):
    with torch.inference_mode():
        run(pipeline)
    assert runs(pipeline)[1] == (1, 1, 1)


def test_unloading_forgets(pipeline):
    run(pipeline, {"person": photo(1), "pet": photo(2)})  # of two adapters
    cache = require_state(pipeline).cache
    assert len(cache) == 2
    pipeline.unload_nested_adapter("pet")
    assert len(cache) == 1
    pipeline.unload_nested_adapter()
    assert len(cache) == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_have_no_subjects(copied):
    cache, keys = filled(3, 3)
    other = copied(cache)
    assert (len(other), len(cache)) == (0, 3)
    for key in [*keys, CacheKey("person", "state", 3)]:
        other.put(key, SubjectReading({}, 5))
    assert (len(other), len(cache)) == (3, 3)


def test_a_call_in_a_callback_and_one_in_another_thread(pipeline, adapters):
    found, expected = {}, [run(build(adapters), {"person": photo(i)}) for i in (1, 2)]

    def inner(pipe, step, timestep, tensors):
        if step == 0:
            found["inner"] = run(pipe, {"person": photo(2)})
        return {}

    def outer():
        found["outer"] = run(pipeline, callback_on_step_end=inner)

    def beside():
        found["beside"] = run(pipeline, {"person": photo(2)})

    threads = [Thread(target=outer), Thread(target=beside)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(found["outer"], expected[0])
    assert np.array_equal(found["inner"], expected[1]) and np.array_equal(found["beside"], expected[1])


def test_a_bad_size_is_refused(pipeline):
    run(pipeline)
    for size in (-1, 1.5, True, None, "2"):
        with pytest.raises(NestedAdapterError, match=r"size is .*, expected a whole number of at least 0.*Pass 0"):
            pipeline.set_nested_adapter_cache(size)
    assert runs(pipeline)[1] == (0, 0, 0)
    with pytest.raises(NestedAdapterError, match=r"No nested adapter is loaded.*load_nested_adapter"):
        CASE.build().set_nested_adapter_cache(0)


@pytest.mark.parametrize("steps", [1, 4])
def test_few_steps_without_guidance(steps, pipeline, adapters):
    """As distilled models are called: one row, no negative prompt, their scheduler, and a cached subject."""
    given = {"num_inference_steps": steps, "guidance_scale": 0.0, "negative_prompt": None}
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    first, again = run(pipeline, **given), run(pipeline, **given)
    assert np.array_equal(first, again)
    plain = CASE.run(pipeline, **given)
    assert np.abs(first - plain).max() > 1e-3
    pipeline.set_nested_adapter_scale(0.0)
    assert np.array_equal(run(pipeline, **given), plain)
