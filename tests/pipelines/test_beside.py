"""What else may be around a layer or UNet with an adapter: odd keywords, compiled layers, shared layers, wrappers."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from addons import TARGETS, Damped
from cases import CASES
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from peft import LoraConfig, get_peft_model

from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]


class Named:
    """Takes keywords with names that others use, too."""

    def __call__(
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, layer=None, out=None
    ):
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def build(processor):
    pipeline = CASE.build()
    for layer in cross_attention_layers(pipeline.unet).values():
        layer.set_processor(processor)
    return pipeline


def run(pipeline, **keywords):
    return CASE.run(pipeline, num_inference_steps=2, **keywords)


@pytest.mark.parametrize("name", ["layer", "out"])
def test_a_processor_may_take_keywords_of_any_name(name, adapters):
    pipeline = build(Named())
    pipeline.load_nested_adapter(adapters["person"])
    expected = run(pipeline, nested_adapter_image=photo(1))
    pipeline.unet.set_attn_processor(
        {path: Named() if "attn1" in path else each for path, each in pipeline.unet.attn_processors.items()}
    )
    ours = run(pipeline, nested_adapter_image=photo(1), cross_attention_kwargs={name: 1})
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("copied", [deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))], ids=["copy", "pickle"])
def test_a_copy_of_a_layer_that_is_compiled_is_not_compiled(copied, adapters):
    pipeline = build(Damped(0.5))
    for layer in cross_attention_layers(pipeline.unet).values():
        layer.compile(backend="eager")
    pipeline.load_nested_adapter(adapters["person"])
    unet = copied(pipeline.unet)
    assert all("_compiled_call_impl" not in vars(layer) for layer in cross_attention_layers(unet).values())
    torch._dynamo.reset()


def test_a_layer_of_two_unets_is_left_as_it_was(adapters):
    one, other = build(Damped(0.5)), build(Damped(0.5))
    other.unet.mid_block = one.unet.mid_block
    attributes = [set(vars(layer)) for layer in cross_attention_layers(one.unet).values()]
    for pipeline in (one, other):
        pipeline.load_nested_adapter(adapters["person"])
    for pipeline in (one, other):
        pipeline.unload_nested_adapter()
        assert {type(layer) for layer in cross_attention_layers(pipeline.unet).values()} == {Attention}
        assert [set(vars(layer)) for layer in cross_attention_layers(pipeline.unet).values()] == attributes
        assert not pipeline.nested_adapters


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unloading_from_a_unet_that_peft_has_wrapped_since(adapters):
    pipeline = CASE.build()
    unet, attributes = pipeline.unet, set(vars(pipeline.unet))
    pipeline.load_nested_adapter(adapters["person"])
    expected = run(pipeline, nested_adapter_image=photo(1))
    pipeline.unet = get_peft_model(unet, LoraConfig(r=2, target_modules=TARGETS))
    assert np.array_equal(run(pipeline, nested_adapter_image=photo(1)), expected)
    pipeline.unload_nested_adapter()
    assert not pipeline.nested_adapters
    assert type(pipeline) is CASE.cls
    assert not {name for name in set(vars(unet)) - attributes if "nested" in name}
