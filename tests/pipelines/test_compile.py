"""A compiled UNet with subjects: one graph, and no new one for another scale, image or prompt."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from cases import CASES, PROMPT
from diffusers.models.attention_processor import AttnProcessor
from torch._dynamo.testing import CompileCounter

from diffusers_nested import Subject
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


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
