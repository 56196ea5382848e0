"""IP-Adapters and nested adapters in one pipeline: both act, in whatever order they come and go."""

import pickle

import numpy as np
import pytest
import torch
from addons import add_image_encoder, install_beside, ip_adapter, load_ip_adapters
from brute_force import brute_subject_of
from cases import CASES
from diffusers import StableDiffusionXLPipeline
from diffusers.image_processor import IPAdapterMaskProcessor

from diffusers_nested import ProcessorReplacedError, ScaleError
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4
SEEN = photo(5)


def build(*ip_seeds):
    pipeline = add_image_encoder(CASE.build())
    if ip_seeds:
        load_ip_adapters(pipeline, *ip_seeds)
    return pipeline


def run(pipeline, image=SEEN, **keywords):
    return CASE.run(pipeline, ip_adapter_image=image, **keywords)


def both(order, adapters, *ip_seeds):
    pipeline = build()
    steps = [lambda: load_ip_adapters(pipeline, *ip_seeds), lambda: pipeline.load_nested_adapter(adapters["person"])]
    for step in steps if order == "ip first" else steps[::-1]:
        step()
    return pipeline


def formula(adapters, *ip_seeds, ip_scale=1.0, scale=1.0, image=SEEN, **keywords):
    plain = build(*ip_seeds)
    plain.set_ip_adapter_scale(ip_scale)
    subject = brute_subject_of(adapters["person"], [photo(1)], scale=scale)
    install_beside(plain.unet, lambda count: [[], [subject]])
    return run(plain, image, **keywords)


def far(left, right):
    return np.abs(left - right).max() > 10 * TOLERANCE


@pytest.fixture(params=["ip first", "nested first"])
def order(request):
    return request.param


def test_both_act_in_one_call(order, adapters):
    pipeline = both(order, adapters, 21)
    pipeline.set_nested_adapter_scale(2.0)
    ours = run(pipeline, nested_adapter_image=photo(1))
    assert np.abs(ours - formula(adapters, 21, scale=2.0)).max() < TOLERANCE
    assert far(ours, run(pipeline))
    assert far(ours, formula(adapters, 21, scale=2.0, image=photo(6)))


def test_two_ip_adapters_and_one_of_ours(order, adapters):
    pipeline = both(order, adapters, 21, 22)
    images = [SEEN, photo(6)]
    pipeline.set_ip_adapter_scale([0.7, 0.4])
    ours = run(pipeline, images, nested_adapter_image=photo(1))
    assert np.abs(ours - formula(adapters, 21, 22, ip_scale=[0.7, 0.4], image=images)).max() < TOLERANCE


def test_the_scale_of_the_ip_adapter_acts(order, adapters):
    pipeline = both(order, adapters, 21)
    pictures = []
    for scale in (0.0, 0.3, {"down": {"block_1": [0.5]}}):
        pipeline.set_ip_adapter_scale(scale)
        pictures.append(run(pipeline, nested_adapter_image=photo(1)))
        assert np.abs(pictures[-1] - formula(adapters, 21, ip_scale=scale)).max() < TOLERANCE
    assert far(pictures[0], pictures[1])
    assert far(pictures[0], pictures[2])


def test_a_scale_for_an_ip_adapter_that_is_not_loaded_is_refused(adapters):
    pipeline = build()
    sharing = StableDiffusionXLPipeline.from_pipe(pipeline)
    pipeline.load_nested_adapter(adapters["person"])
    for one in (pipeline, sharing):
        with pytest.raises(ScaleError, match=r"nested adapters only: person\. Call set_nested_adapter_scale"):
            one.set_ip_adapter_scale(0.5)
    load_ip_adapters(pipeline, 21)
    sharing.set_ip_adapter_scale(0.5)
    pipeline.unload_ip_adapter()
    pipeline.unload_nested_adapter()
    pipeline.set_ip_adapter_scale(0.5)


def test_masks_reach_the_ip_adapter(order, adapters):
    pipeline, halved = both(order, adapters, 21), np.zeros((16, 16), np.uint8)
    halved[:, :8] = 255
    masks = IPAdapterMaskProcessor(vae_scale_factor=1).preprocess([halved], height=16, width=16)
    masks = [masks.reshape(1, 1, 16, 16)]
    keywords = {"cross_attention_kwargs": {"ip_adapter_masks": masks}}
    ours = run(pipeline, [[SEEN]], nested_adapter_image=photo(1), **keywords)
    assert np.abs(ours - formula(adapters, 21, image=[[SEEN]], **keywords)).max() < TOLERANCE
    assert far(ours, run(pipeline, nested_adapter_image=photo(1)))


def test_without_a_subject_the_ip_adapter_acts_as_alone(order, adapters):
    pipeline = both(order, adapters, 21)
    alone = run(build(21))
    assert np.array_equal(run(pipeline), alone)
    pipeline.set_nested_adapter_scale(0.0)
    assert np.array_equal(run(pipeline, nested_adapter_image=photo(1)), alone)


def test_unloading_ours_leaves_the_ip_adapter(order, adapters):
    pipeline = both(order, adapters, 21)
    run(pipeline, nested_adapter_image=photo(1))
    pipeline.unload_nested_adapter()
    alone = build(21)
    types = [type(processor) for processor in alone.unet.attn_processors.values()]
    assert [type(processor) for processor in pipeline.unet.attn_processors.values()] == types
    assert type(pipeline) is StableDiffusionXLPipeline
    assert np.array_equal(run(pipeline), run(alone))


def test_unloading_the_ip_adapter_leaves_ours(order, adapters):
    pipeline = both(order, adapters, 21)
    run(pipeline, nested_adapter_image=photo(1))
    pipeline.unload_ip_adapter()
    alone = CASE.build()
    alone.load_nested_adapter(adapters["person"])
    ours = CASE.run(pipeline, nested_adapter_image=photo(1))
    assert np.array_equal(ours, CASE.run(alone, nested_adapter_image=photo(1)))
    pipeline.unload_nested_adapter()
    assert np.array_equal(CASE.run(pipeline), CASE.plain())


def test_processors_of_an_ip_adapter_are_the_same_objects_afterwards(adapters):
    pipeline = build(21)
    before = {path: layer.processor for path, layer in cross_attention_layers(pipeline.unet).items()}
    types = {path: type(processor) for path, processor in before.items()}
    for _ in range(2):
        pipeline.load_nested_adapter(adapters["person"])
        run(pipeline, nested_adapter_image=photo(1))
        pipeline.unload_nested_adapter()
        for path, layer in cross_attention_layers(pipeline.unet).items():
            assert layer.processor is before[path]
            assert type(layer.processor) is types[path]


def test_the_weights_of_the_unet_keep_their_names(order, adapters):
    pipeline, alone = both(order, adapters, 21), build(21)
    ours, theirs = pipeline.unet.state_dict(), alone.unet.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("before", [(), (21,)], ids=["first", "in place of another"])
def test_an_ip_adapter_loaded_into_the_unet_itself_is_noticed(before, adapters):
    pipeline = build(*before)
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.unet._load_ip_adapter_weights([ip_adapter(pipeline.unet, 22)])
    with pytest.raises(ProcessorReplacedError):
        run(pipeline, nested_adapter_image=photo(1))
    pipeline.unload_nested_adapter()
    assert np.array_equal(run(pipeline), run(build(22)))
    pipeline.load_nested_adapter(adapters["person"])
    assert np.abs(run(pipeline, nested_adapter_image=photo(1)) - formula(adapters, 22)).max() < TOLERANCE


def test_a_pickled_unet_with_both(order, adapters):
    pipeline = both(order, adapters, 21)
    other = build(21)
    other.unet = pickle.loads(pickle.dumps(pipeline.unet))
    assert np.array_equal(run(other, nested_adapter_image=photo(1)), run(pipeline, nested_adapter_image=photo(1)))
