"""The registry, and the recipe for adding a mechanism as it stands in CONTRIBUTING.md."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.mechanisms import MECHANISMS, Mechanism, get_mechanism, register_mechanism

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(autouse=True)
def registry():
    """Takes out what a test registers."""
    before = dict(MECHANISMS)
    yield
    MECHANISMS.clear()
    MECHANISMS.update(before)


def test_an_unknown_mechanism_lists_the_known_ones():
    with pytest.raises(NestedAdapterError) as error:
        get_mechanism("nestled")
    assert all(name in str(error.value) for name in ("nestled", *MECHANISMS))


def test_every_mechanism_is_known_by_its_name():
    assert list(MECHANISMS) == ["nested", "decoupled", "located", "simple", "global_value", "multiple_tokens"]
    assert all(get_mechanism(name).name == name for name in MECHANISMS)


def test_a_name_is_taken_once():
    other = Mechanism("nested", get_mechanism("decoupled").attend)
    with pytest.raises(NestedAdapterError, match="registered as 'nested'"):
        register_mechanism(other)
    assert get_mechanism("nested") is not other
    assert register_mechanism(get_mechanism("nested")) is get_mechanism("nested")


def run(pipeline, **keywords):
    seeded = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 2}
    return pipeline("a photo of a person", height=16, width=16, output_type="np", **seeded, **keywords).images


def test_the_recipe_for_a_mechanism(tmp_path: Path):
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Add a mechanism")[2]
    (recipe,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(recipe, {})
    assert get_mechanism("added_mean").name == "added_mean"
    pipeline = StableDiffusionXLPipeline(**tiny_pipeline.components(), add_watermarker=False)
    plain = run(pipeline)
    made = tiny_pipeline.adapter(pipeline.unet, mechanism="added_mean")
    folder = tiny_pipeline.save_adapter(tmp_path, made)
    pipeline.load_nested_adapter(folder)
    pictures = []
    for scale in (0.0, 1.0, 2.0):
        pipeline.set_nested_adapter_scale(scale)
        pictures.append(run(pipeline, nested_adapter_image=tiny_pipeline.photo(1)))
    assert np.array_equal(pictures[0], plain)
    assert all(np.abs(picture - plain).max() > 1e-3 for picture in pictures[1:])
    assert not np.array_equal(pictures[1], pictures[2])
    projection = NestedAdapter.from_pretrained(folder).projections
    assert {name.rsplit(".", 2)[-2] for name in projection.state_dict()} == {"value"}
    loss = sum(x.square().sum() for read in made(torch.randn(2, 3, tiny_pipeline.FEATURES)).values() for x in read)
    loss.backward()
    assert all(parameter.grad is not None for parameter in made.projections.parameters())
