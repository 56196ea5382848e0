"""What a subject costs in operations, as each is a launch on a GPU: counted in whole denoising steps of a pipeline."""

from typing import Any

import pytest
from cases import CASES

from diffusers_nested.backbones import cross_attention_layers
from launches import Launches
from tiny_pipeline import photo

CASE = CASES[0]
ONE, TWO = {"person": photo(1)}, {"person": photo(1), "pet": photo(2)}


def per_step(pipeline: Any, **keywords: Any) -> float:
    """Operations of one more denoising step, in units of the UNet's cross-attention layers."""
    counts = []
    for steps in (3, 4):
        with Launches() as counted:
            CASE.run(pipeline, num_inference_steps=steps, **keywords)
        counts.append(len(counted.names))
    return (counts[1] - counts[0]) / len(cross_attention_layers(pipeline.unet))


@pytest.fixture(scope="module")
def plain() -> float:
    return per_step(CASE.build())


@pytest.mark.parametrize(
    ("mechanism", "scale", "first", "further"),
    # IP-Adapter itself adds 5 for each
    [("nested", 1.0, 12, 8), ("nested", 0.5, 12, 8), ("nested", 2.0, 18, 8), ("decoupled", 0.7, 5, 5)],
)
def test_a_subject_adds_few_operations(mechanism, scale, first, further, plain, adapters_of):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(list(adapters_of(mechanism).values()))
    pipeline.set_nested_adapter_cache(0)  # the calls that are compared must project alike
    pipeline.set_nested_adapter_scale(scale)
    one, two = (per_step(pipeline, nested_adapter_image=images) for images in (ONE, TWO))
    assert 1 <= one - plain <= first
    assert 1 <= two - one <= further


def test_a_call_without_subjects_adds_none(plain, adapters_of):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters_of("nested")["person"])
    assert per_step(pipeline) == plain
