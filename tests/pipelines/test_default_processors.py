"""``unet.set_default_attn_processor()`` does with an adapter loaded what it does without one."""

import numpy as np
import pytest
import torch
from addons import Damped, add_image_encoder, load_ip_adapters
from cases import CASES
from diffusers.models.attention_processor import AttnProcessor

from diffusers_nested import ProcessorReplacedError
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
MOTION = next(case for case in CASES if case.frames > 1)


def standing(pipeline):
    return {path: layer.processor for path, layer in cross_attention_layers(pipeline.unet).items()}


@pytest.mark.parametrize("case", [CASE, MOTION], ids=str)
def test_it_takes_ours_out_and_the_next_call_with_a_subject_says_so(case, adapters):
    pipeline, plain = case.build(), case.build()
    pipeline.load_nested_adapter(adapters["person"])
    for each in (pipeline, plain):
        each.unet.set_default_attn_processor()
    assert {type(one) for one in pipeline.unet.attn_processors.values()} == {AttnProcessor}
    assert np.array_equal(case.run(pipeline), case.run(plain))
    with pytest.raises(ProcessorReplacedError, match="unload_nested_adapter"):
        case.run(pipeline, nested_adapter_image=photo(1))
    pipeline.unload_nested_adapter()
    pipeline.load_nested_adapter(adapters["person"])
    ours = case.run(pipeline, nested_adapter_image=photo(1))
    assert np.abs(ours - case.run(plain)).max() > 1e-3
    pipeline.unload_nested_adapter()
    assert {type(one) for one in pipeline.unet.attn_processors.values()} == {AttnProcessor}


def test_twice(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    for _ in range(2):
        pipeline.unet.set_default_attn_processor()
    assert {type(one) for one in standing(pipeline).values()} == {AttnProcessor}
    with pytest.raises(ProcessorReplacedError):
        CASE.run(pipeline, nested_adapter_image=photo(1))


def test_of_a_wrapped_unet(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    inner = pipeline.unet
    pipeline.unet = torch.compile(inner, backend="eager")
    pipeline.unet.set_default_attn_processor()  # pyright: ignore[reportFunctionMemberAccess]
    assert {type(one) for one in inner.attn_processors.values()} == {AttnProcessor}
    with pytest.raises(ProcessorReplacedError):
        CASE.run(pipeline, nested_adapter_image=photo(1))


def test_beside_an_ip_adapter(adapters):
    pipeline = add_image_encoder(CASE.build())
    load_ip_adapters(pipeline, 21)
    before = standing(pipeline)
    types = {path: type(one) for path, one in before.items()}
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.unet.set_default_attn_processor()
    assert {type(one) for one in pipeline.unet.attn_processors.values()} == {AttnProcessor}
    assert {path: type(one) for path, one in before.items()} == types
    with pytest.raises(ProcessorReplacedError):
        CASE.run(pipeline, nested_adapter_image=photo(1), ip_adapter_image=photo(5))


def test_what_diffusers_refuses_without_us_it_refuses_with_us(adapters):
    pipeline = CASE.build()
    for layer in cross_attention_layers(pipeline.unet).values():
        layer.set_processor(Damped(0.6))
    pipeline.load_nested_adapter(adapters["person"])
    before = CASE.run(pipeline, nested_adapter_image=photo(1))
    with pytest.raises(ValueError, match="set_default_attn_processor"):
        pipeline.unet.set_default_attn_processor()
    assert np.array_equal(CASE.run(pipeline, nested_adapter_image=photo(1)), before)
