"""LoRAs on the layers in which subjects act: loaded before or after, scaled, fused, unloaded."""

import numpy as np
import pytest
from addons import TARGETS, add_image_encoder, install_beside, load_ip_adapters, lora
from brute_force import brute_subject_of, install
from cases import CASES
from peft import LoraConfig

from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4
HALF = {"cross_attention_kwargs": {"scale": 0.5}}


def load_lora(pipeline, seed=31):
    pipeline.load_lora_weights(dict(lora(seed)), adapter_name=f"lora_{seed}")


def both(order, adapters):
    pipeline = CASE.build()
    steps = [lambda: load_lora(pipeline), lambda: pipeline.load_nested_adapter(adapters["person"])]
    for step in steps if order == "lora first" else steps[::-1]:
        step()
    return pipeline


def run(pipeline, **keywords):
    return CASE.run(pipeline, nested_adapter_image=photo(1), **keywords)


def formula(pipeline, adapters, scale=1.0, **keywords):
    """A pipeline's picture with the formula in its UNet, LoRA or not."""
    subject = brute_subject_of(adapters["person"], [photo(1)], scale=scale)
    install(pipeline.unet, lambda count: [[], [subject]])
    return CASE.run(pipeline, **keywords)


def with_lora():
    pipeline = CASE.build()
    load_lora(pipeline)
    return pipeline


def without_lora(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    return run(pipeline)


@pytest.fixture(params=["lora first", "nested first"])
def order(request):
    return request.param


@pytest.mark.parametrize("keywords", [{}, HALF], ids=["whole", "half"])
def test_both_act(order, keywords, adapters):
    ours = run(both(order, adapters), **keywords)
    assert np.abs(ours - formula(with_lora(), adapters, **keywords)).max() < TOLERANCE
    assert np.abs(ours - CASE.run(with_lora(), **keywords)).max() > 10 * TOLERANCE
    assert np.abs(ours - without_lora(adapters)).max() > 10 * TOLERANCE


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_fused_and_unfused(order, strength, adapters):
    pipeline, plain = both(order, adapters), with_lora()
    pipeline.set_nested_adapter_scale(2.0)
    active = run(pipeline)
    pictures = []
    for switch in (lambda one: one.fuse_lora(lora_scale=strength), lambda one: one.unfuse_lora()):
        switch(pipeline)
        switch(plain)
        pictures.append(run(pipeline))
        assert np.abs(pictures[-1] - formula(plain, adapters, scale=2.0)).max() < TOLERANCE
    if strength == 1.0:  # diffusers leaves a LoRA that was fused at another strength at that
        assert max(np.abs(picture - active).max() for picture in pictures) < TOLERANCE
    else:
        assert np.abs(pictures[0] - active).max() > 10 * TOLERANCE


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_two_loras_with_weights(adapters):
    pipeline, plain = both("nested first", adapters), with_lora()
    for one in (pipeline, plain):
        load_lora(one, 32)
        one.set_adapters(["lora_31", "lora_32"], [0.7, 0.4])
    assert np.abs(run(pipeline) - formula(plain, adapters)).max() < TOLERANCE


def test_a_lora_that_is_switched_off_does_nothing(order, adapters):
    pipeline = both(order, adapters)
    with_both = run(pipeline)
    pipeline.disable_lora()
    assert np.array_equal(run(pipeline), without_lora(adapters))
    pipeline.enable_lora()
    assert np.array_equal(run(pipeline), with_both)


def test_unloading_the_lora_leaves_ours(order, adapters):
    pipeline = both(order, adapters)
    run(pipeline)
    pipeline.unload_lora_weights()
    assert np.array_equal(run(pipeline), without_lora(adapters))
    pipeline.unload_nested_adapter()
    assert np.array_equal(CASE.run(pipeline), CASE.plain())


def test_unloading_ours_leaves_the_lora(order, adapters):
    pipeline = both(order, adapters)
    run(pipeline)
    pipeline.unload_nested_adapter()
    assert np.array_equal(CASE.run(pipeline), CASE.run(with_lora()))
    pipeline.unload_lora_weights()
    assert np.array_equal(CASE.run(pipeline), CASE.plain())


def test_a_lora_made_in_the_loaded_unet_is_in_its_own_layers_only(adapters):
    pipeline, plain = CASE.build(), CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    for one in (pipeline, plain):
        one.unet.add_adapter(LoraConfig(r=2, target_modules=TARGETS))
    assert set(pipeline.unet.state_dict()) == set(plain.unet.state_dict())
    assert not any("lora" in name for name in pipeline.nested_adapters["person"].state_dict())


def test_lora_ip_adapter_and_subject_at_once(adapters):
    ours, plain = add_image_encoder(CASE.build()), add_image_encoder(CASE.build())
    load_lora(ours)
    ours.load_nested_adapter(adapters["person"])
    load_ip_adapters(ours, 21)
    load_lora(plain)
    load_ip_adapters(plain, 21)
    subject = brute_subject_of(adapters["person"], [photo(1)])
    install_beside(plain.unet, lambda count: [[], [subject]])
    seen = {"ip_adapter_image": photo(5)}
    assert np.abs(run(ours, **seen) - CASE.run(plain, **seen)).max() < TOLERANCE
