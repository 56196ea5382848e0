"""Blocks of Modular Diffusers with the one for subjects: put in, loaded into, taken out, and missing."""

from typing import Any

import numpy as np
import pytest
from diffusers import LoopSequentialPipelineBlocks, StableDiffusionXLAutoBlocks, StableDiffusionXLModularPipeline
from modular_sdxl import STEPS, TOLERANCE, build, formula, nested, pag, person, run

from diffusers_nested import NestedAdapterError, NestedDenoiseStep, add_nested_subjects
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo


def test_workflows_keep_the_block(adapters):
    blocks = add_nested_subjects(StableDiffusionXLAutoBlocks())
    alone = build(blocks=blocks.get_workflow("text2image"))
    assert "controlnet" not in alone.component_names
    after = build(blocks=add_nested_subjects(StableDiffusionXLAutoBlocks().get_workflow("text2image")))
    expected = formula([[person(adapters)]], "cu" * STEPS)
    for ours in (alone, after):
        ours.load_nested_adapter(adapters["person"])
        assert np.abs(run(ours, nested_adapter_image=photo(1)) - expected).max() < TOLERANCE


def test_load_and_unload_twice_leaves_no_trace(adapters):
    ours = nested(guider=pag)
    plain = run(ours)  # the guider leaves traces of its own in the UNet
    before = {path: layer.processor for path, layer in cross_attention_layers(ours.unet).items()}
    attributes = set(vars(ours.unet))
    for _ in range(2):
        ours.load_nested_adapter(adapters["person"])
        assert type(ours) is StableDiffusionXLModularPipeline
        run(ours, nested_adapter_image=photo(1))
        ours.unload_nested_adapter()
        after = {path: layer.processor for path, layer in cross_attention_layers(ours.unet).items()}
        assert all(after[path] is before[path] for path in before)
        assert set(vars(ours.unet)) == attributes
        assert np.array_equal(run(ours), plain)


def test_a_pipeline_without_the_block_refuses_the_keywords(adapters):
    plain = build()
    plain.load_nested_adapter(adapters["person"])
    with pytest.raises(NestedAdapterError):
        run(plain, nested_adapter_image=photo(1))
    again = add_nested_subjects(plain.blocks).init_pipeline()
    # the UNet brings its adapters along; diffusers takes no feature extractor that was not loaded by itself
    again.update_components(**{name: one for name, one in plain.components.items() if name != "feature_extractor"})
    ours = run(again, nested_adapter_image=photo(1))
    assert np.abs(ours - formula([[person(adapters)]], "cu" * STEPS)).max() < TOLERANCE


def test_subjects_without_an_adapter_are_refused():
    with pytest.raises(NestedAdapterError):
        run(nested(), nested_adapter_image=photo(1))


def test_loading_needs_a_unet(adapters):
    empty = add_nested_subjects(StableDiffusionXLAutoBlocks()).init_pipeline()
    with pytest.raises(NestedAdapterError):
        empty.load_nested_adapter(adapters["person"])
    assert type(empty) is StableDiffusionXLModularPipeline


def test_blocks_are_copied_and_enclosed_once():
    blocks = StableDiffusionXLAutoBlocks()
    names = set(blocks.input_names)
    once = add_nested_subjects(blocks)
    assert set(blocks.input_names) == names
    assert set(once.input_names) > names
    twice = add_nested_subjects(once)
    kinds = [type(block) for block in leaves(twice)]
    assert kinds.count(NestedDenoiseStep) == 4
    assert not any(issubclass(kind, LoopSequentialPipelineBlocks) for kind in kinds)


def leaves(block: Any) -> list[Any]:
    return [leaf for part in block.sub_blocks.values() for leaf in leaves(part)] if block.sub_blocks else [block]


def test_blocks_without_a_unet_are_refused():
    encoder = StableDiffusionXLAutoBlocks().sub_blocks["text_encoder"]
    with pytest.raises(NestedAdapterError):
        add_nested_subjects(encoder)


def test_what_is_no_block_is_refused_in_words():
    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    with pytest.raises(NestedAdapterError, match=r"got a StableDiffusionXLModularPipeline.*add_nested_subjects\(pipe"):
        add_nested_subjects(pipe)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NestedAdapterError, match=r"got the class StableDiffusionXLAutoBlocks\."):
        add_nested_subjects(StableDiffusionXLAutoBlocks)  # pyright: ignore[reportArgumentType]
