"""Attention processors of the user's own on the layers: they go on to act, and come back as they were."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from addons import Damped, install_beside
from brute_force import brute_subject_of
from cases import CASES
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn

from diffusers_nested import ProcessorReplacedError
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4


class Shifted(nn.Module):
    """A module with a weight."""

    def __init__(self, width):
        super().__init__()
        self.shift = nn.Parameter(torch.linspace(-0.5, 0.5, width))

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        out = AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return out + self.shift


class Stretched(nn.Module):
    """A module that serves all layers, self-attention too."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.7))

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        return self.factor * AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class Turned:
    """Takes a keyword of its own from ``cross_attention_kwargs``."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, strength=0.0):
        out = AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return out + strength * out.roll(1, -1)


def damped(layers):
    shared = Damped(0.6)
    return dict.fromkeys(layers, shared)


def shifted(layers):
    return {path: Shifted(layer.inner_dim) for path, layer in layers.items()}


def stretched(layers):
    shared = Stretched()
    return dict.fromkeys((*layers, *(path.replace("attn2", "attn1") for path in layers)), shared)


def turned(layers):
    return {path: Turned() for path in layers}


def derived(layers):
    """Subclasses of a stock processor are not stock processors."""

    class Mine(AttnProcessor2_0):
        def __call__(self, *args, **kwargs):
            return 0.8 * super().__call__(*args, **kwargs)

    return {path: Mine() for path in layers}


CALLS = {damped: {}, shifted: {}, stretched: {}, derived: {}, turned: {"cross_attention_kwargs": {"strength": 0.5}}}
pytestmark = pytest.mark.parametrize("processors", CALLS, ids=lambda made: made.__name__)


@pytest.fixture
def keywords(processors):
    return CALLS[processors]


def build(processors):
    pipeline = CASE.build()
    for path, processor in processors(cross_attention_layers(pipeline.unet)).items():
        pipeline.unet.get_submodule(path).set_processor(processor)
    return pipeline


def standing(pipeline):
    return {path: layer.processor for path, layer in cross_attention_layers(pipeline.unet).items()}


def test_they_act_beside_a_subject(processors, keywords, adapters):
    pipeline, plain = build(processors), build(processors)
    pipeline.load_nested_adapter(adapters["person"])
    subject = brute_subject_of(adapters["person"], [photo(1)])
    install_beside(plain.unet, lambda count: [[], [subject]])
    ours = CASE.run(pipeline, nested_adapter_image=photo(1), **keywords)
    assert np.abs(ours - CASE.run(plain, **keywords)).max() < TOLERANCE
    assert np.abs(ours - CASE.run(build(processors), **keywords)).max() > 10 * TOLERANCE
    stock = CASE.build()
    stock.load_nested_adapter(adapters["person"])
    assert np.abs(ours - CASE.run(stock, nested_adapter_image=photo(1))).max() > 10 * TOLERANCE


def test_they_act_alone_without_a_subject(processors, keywords, adapters):
    pipeline = build(processors)
    before = CASE.run(pipeline, **keywords)
    pipeline.load_nested_adapter(adapters["person"])
    assert np.array_equal(CASE.run(pipeline, **keywords), before)
    pipeline.set_nested_adapter_scale(0.0)
    assert np.array_equal(CASE.run(pipeline, nested_adapter_image=photo(1), **keywords), before)


def test_they_come_back_as_they_were(processors, keywords, adapters):
    pipeline = build(processors)
    before, weights = standing(pipeline), list(pipeline.unet.state_dict())
    types = {path: type(processor) for path, processor in before.items()}
    attributes = {path: set(vars(processor)) for path, processor in before.items()}
    picture = CASE.run(pipeline, **keywords)
    for _ in range(2):
        pipeline.load_nested_adapter(adapters["person"])
        CASE.run(pipeline, nested_adapter_image=photo(1), **keywords)
        assert list(pipeline.unet.state_dict()) == weights
        pipeline.unload_nested_adapter()
        for path, processor in standing(pipeline).items():
            assert processor is before[path]
            assert type(processor) is types[path]
            assert set(vars(processor)) == attributes[path]
    assert np.array_equal(CASE.run(pipeline, **keywords), picture)


def test_a_copy_acts_on_its_own(processors, keywords, adapters):
    pipeline = build(processors)
    pipeline.load_nested_adapter(adapters["person"])
    other = build(processors)
    other.unet = deepcopy(pipeline.unet)
    before = CASE.run(pipeline, nested_adapter_image=photo(1), **keywords)
    assert np.array_equal(CASE.run(other, nested_adapter_image=photo(1), **keywords), before)
    other.unload_nested_adapter()
    assert np.array_equal(CASE.run(pipeline, nested_adapter_image=photo(1), **keywords), before)
    assert {type(layer) for layer in cross_attention_layers(other.unet).values()} == {Attention}


def test_a_processor_set_later_is_noticed(processors, keywords, adapters):
    pipeline = build(processors)
    pipeline.load_nested_adapter(adapters["person"])
    layer, other, *_ = cross_attention_layers(pipeline.unet).values()
    layer.set_processor(Damped(0.5))
    other.__class__ = Attention  # whatever would do that
    with pytest.raises(ProcessorReplacedError, match=r"2 of \d+ .*Damped.*load it again"):
        CASE.run(pipeline, nested_adapter_image=photo(1), **keywords)
    pipeline.unload_nested_adapter()
    assert type(layer.processor) is Damped
    assert type(layer) is type(other) is Attention
