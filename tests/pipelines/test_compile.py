"""A compiled UNet with subjects: one graph, and no new one for another scale, image or prompt."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from cases import CASES, PROMPT
from diffusers.models.attention_processor import AttnProcessor
from torch._dynamo.testing import CompileCounter

from diffusers_nested import Subject
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import adapter, photo, save_adapter

# One level instead of two: compilation takes time by the layer.
SMALL = {
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "block_out_channels": [32],
    "attention_head_dim": [2],
}
CASE = replace(CASES[0], unet=SMALL)
TOLERANCE = 1e-4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def adapters_by(tmp_path_factory):
    """Folders of two adapters for the small UNet, "person" and "pet", by mechanism."""
    folder, unet = tmp_path_factory.mktemp("small"), CASE.build().unet

    @cache
    def save(mechanism):
        return {
            word: save_adapter(folder / mechanism / word, adapter(unet, i, subject_token=word, mechanism=mechanism))
            for i, word in enumerate(("person", "pet"), start=1)
        }

    return save


@pytest.fixture(scope="module")
def adapters(adapters_by):
    return adapters_by("nested")


def run(pipeline, image=None, **keywords):
    given = {} if image is None else {"nested_adapter_image": image}
    return CASE.run(pipeline, num_inference_steps=2, **given, **keywords)


def wrapped(pipeline, backend):
    pipeline.unet = torch.compile(pipeline.unet, backend=backend, fullgraph=True)


def in_place(pipeline, backend):
    pipeline.unet.compile(backend=backend, fullgraph=True)


def by_blocks(pipeline, backend):
    pipeline.unet.compile_repeated_blocks(backend=backend, fullgraph=True)


@pytest.fixture(scope="module", params=[wrapped, in_place, by_blocks], ids=lambda how: how.__name__)
def compiled(request, adapters):
    """A compiled pipeline that has made one picture with a subject, and its counter of graphs."""
    torch._dynamo.reset()
    counter = CompileCounter()
    pipeline = CASE.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    request.param(pipeline, counter)
    run(pipeline, {"person": photo(1)})
    assert counter.frame_count > 0
    yield pipeline, counter
    torch._dynamo.reset()


def test_other_scales_images_and_prompts_need_no_new_graph(compiled):
    pipeline, counter = compiled
    counter.clear()
    pictures = []
    for scale in (0.5, 2.0, 3.0):
        pipeline.set_nested_adapter_scale(scale)
        pictures.append(run(pipeline, {"person": photo(1)}))
    pictures.append(run(pipeline, {"person": photo(2)}))
    pictures.append(run(pipeline, {"person": photo(2)}, prompt="a watercolor of a person on the beach"))
    pictures.append(run(pipeline, Subject(photo(2), token="person", scale=1.5)))
    other = PROMPT.replace("walking", "photo")
    pictures.append(run(pipeline, Subject(photo(1), token="photo", adapter_name="person"), prompt=other))
    pipeline.set_nested_adapter_scale(1.0)
    assert counter.frame_count == 0
    assert all(not np.array_equal(one, other) for one, other in pairwise(pictures))


def test_it_computes_the_same(compiled, adapters):
    pipeline, _ = compiled
    eager = CASE.build()
    eager.load_nested_adapter([adapters["person"], adapters["pet"]])
    images = {"person": photo(2), "pet": photo(3)}
    assert np.abs(run(pipeline, images) - run(eager, images)).max() < TOLERANCE


def test_scale_zero_is_the_plain_pipeline(compiled):
    pipeline, _ = compiled
    plain = run(pipeline)
    pipeline.set_nested_adapter_scale(0.0)
    off = run(pipeline, {"person": photo(1)})
    pipeline.set_nested_adapter_scale(1.0)
    assert np.array_equal(off, plain)


@pytest.mark.parametrize("processor", [None, AttnProcessor()], ids=["replaced", "beside"])
def test_an_adapter_loaded_after_compilation_acts(processor, adapters):
    torch._dynamo.reset()
    pipeline, eager = CASE.build(), CASE.build()
    for each in (pipeline, eager):
        for layer in cross_attention_layers(each.unet).values():
            layer.set_processor(layer.processor if processor is None else processor)
    by_blocks(pipeline, CompileCounter())
    plain = run(pipeline)
    pipeline.load_nested_adapter(adapters["person"])
    with_subject = run(pipeline, photo(1))
    eager.load_nested_adapter(adapters["person"])
    assert np.abs(with_subject - run(eager, photo(1))).max() < TOLERANCE
    pipeline.unload_nested_adapter()
    assert np.array_equal(run(pipeline), plain)


def test_the_simple_mechanism_needs_one_graph(adapters_by):
    """It alone does more in a layer than its formula, which is compiled elsewhere."""
    torch._dynamo.reset()
    counter, pipeline = CompileCounter(), CASE.build()
    pipeline.load_nested_adapter([adapters_by("simple")["person"], adapters_by("simple")["pet"]])
    eager = run(pipeline, Subject(photo(1), token="person", scale=0.7))
    wrapped(pipeline, counter)
    pipeline.set_nested_adapter_scale(0.7)
    assert np.abs(run(pipeline, {"person": photo(1)}) - eager).max() < TOLERANCE
    first = counter.frame_count
    pipeline.set_nested_adapter_scale(2.0)
    run(pipeline, {"person": photo(2)})
    assert 0 < first == counter.frame_count
    torch._dynamo.reset()


def test_subjects_in_8_bits_need_one_graph(adapters):
    """Their layers read more than the others, which is compiled with them."""
    torch._dynamo.reset()
    counter, pipeline = CompileCounter(), CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.set_nested_adapter_storage(dtype=torch.int8)
    eager = run(pipeline, photo(1))
    by_blocks(pipeline, counter)
    assert np.abs(run(pipeline, photo(1)) - eager).max() < TOLERANCE
    first = counter.frame_count
    pipeline.set_nested_adapter_scale(2.0)
    run(pipeline, photo(2))
    assert 0 < first == counter.frame_count
    torch._dynamo.reset()
