"""What every pipeline must keep to with an adapter loaded."""

import numpy as np
import pytest
import torch
from brute_force import brute_subject, install
from cases import CASES, PROMPT, Case
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import tiny_pipeline
from diffusers_nested import NestedAdapter, NestedAdapterError, ProcessorReplacedError
from diffusers_nested.layers import cross_attention_layers
from tiny_pipeline import photo

TOLERANCE = 1e-4  # of pictures in 0..1, float32

pytestmark = pytest.mark.parametrize("case", CASES, ids=str)


def word_at(prompt: str, word: str) -> tuple[int, ...]:
    """Every word of the tiny tokenizer is one token, after one start token."""
    return tuple(i + 1 for i, each in enumerate(prompt.split()) if each == word)


def brute_subject_of(folder, images, prompt: str, word: str, **values):
    """A subject by the published files of its adapter."""
    encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    adapter = NestedAdapter.from_pretrained(folder)
    return brute_subject(adapter, encoder, extractor, images, word_at(prompt, word), **values)


def brute(case: Case, adapters, subjects: dict[str, list], rows: str = "", **values):
    """The case's pipeline with the paper's formula in its UNet."""
    pipeline, order = case.build(), rows or case.rows
    made = [brute_subject_of(adapters[word], images, PROMPT, word, **values) for word, images in subjects.items()]
    install(
        pipeline.unet,
        lambda count: [made if kind == "c" else [] for kind in order for _ in range(count // len(order))],
    )
    return pipeline


def test_without_keywords_it_is_the_plain_pipeline(case, adapters):
    pipeline = case.build()
    plain = case.run(pipeline)
    pipeline.load_nested_adapter(adapters["person"])
    assert np.array_equal(case.run(pipeline), plain)


def test_scale_zero_is_the_plain_pipeline(case, adapters):
    pipeline = case.build()
    plain = case.run(pipeline)
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.set_nested_adapter_scale(0.0)
    assert np.array_equal(case.run(pipeline, nested_adapter_image=photo(1)), plain)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_equals_the_formula(case, adapters, scale):
    pipeline = case.build()
    plain = case.run(pipeline)
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.set_nested_adapter_scale(scale)
    ours = case.run(pipeline, nested_adapter_image=photo(1))
    expected = case.run(brute(case, adapters, {"person": [photo(1)]}, scale=scale))
    assert np.abs(ours - expected).max() < TOLERANCE
    assert np.abs(ours - plain).max() > 10 * TOLERANCE


def test_two_subjects_equal_the_formula(case, adapters):
    # each subject of the formula has its own tokens only
    pipeline = case.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    ours = case.run(pipeline, nested_adapter_image={"person": photo(1), "pet": [photo(2), photo(3)]})
    expected = case.run(brute(case, adapters, {"person": [photo(1)], "pet": [photo(2), photo(3)]}))
    assert np.abs(ours - expected).max() < TOLERANCE


def test_unconditional_rows_are_untouched(case, adapters):
    pipeline = case.build()
    outputs = []
    pipeline.unet.register_forward_hook(lambda module, args, out: outputs.append(out[0].clone()))
    negative = {"negative_prompt": "blurry person walking a pet", "num_inference_steps": 1}
    if "strength" in case.inputs():
        negative["strength"] = 1.0
    case.run(pipeline, **negative)
    pipeline.load_nested_adapter(adapters["person"])
    case.run(pipeline, nested_adapter_image=photo(1), **negative)
    for kind, before, after in zip(case.rows, *(out.chunk(len(case.rows)) for out in outputs), strict=True):
        assert torch.equal(before, after) == (kind == "u")


@pytest.mark.parametrize("changes", [{"guidance_scale": 1.0}, {"num_images_per_prompt": 2}], ids=str)
def test_other_batches_equal_the_formula(case, adapters, changes):
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    ours = case.run(pipeline, nested_adapter_image=photo(1), **changes)
    rows = case.rows.replace("u", "") if "guidance_scale" in changes else case.rows
    theirs = case.run(brute(case, adapters, {"person": [photo(1)]}, rows=rows), **changes)
    assert np.abs(ours - theirs).max() < TOLERANCE


def test_a_batch_of_prompts_equals_the_formula(case, adapters):
    prompts = ["a person in the snow", "a watercolor of a person on the beach"]
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    ours = case.run(pipeline, prompt=prompts, nested_adapter_image=photo(1))
    plain, made = (
        case.build(),
        [brute_subject_of(adapters["person"], [photo(1)], p, "person") for p in prompts],
    )
    install(plain.unet, lambda count: [[one] if kind == "c" else [] for kind in case.rows for one in made])
    assert np.abs(ours - case.run(plain, prompt=prompts)).max() < TOLERANCE


def test_load_and_unload_twice_leaves_no_trace(case, adapters):
    pipeline = case.build()
    plain, cls = case.run(pipeline), type(pipeline)
    before = {path: layer.processor for path, layer in cross_attention_layers(pipeline.unet).items()}
    keys, attributes = set(pipeline.unet.state_dict()), set(vars(pipeline.unet))
    for _ in range(2):
        pipeline.load_nested_adapter(adapters["person"])
        case.run(pipeline, nested_adapter_image=photo(1))
        assert set(pipeline.unet.state_dict()) == keys
        pipeline.unload_nested_adapter()
        after = {path: layer.processor for path, layer in cross_attention_layers(pipeline.unet).items()}
        assert type(pipeline) is cls
        assert all(after[path] is before[path] for path in before)
        assert set(vars(pipeline.unet)) == attributes
        assert np.array_equal(case.run(pipeline), plain)


def test_saved_and_loaded_adapter_gives_the_same_picture(case, adapters, tmp_path):
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    first = case.run(pipeline, nested_adapter_image=photo(1))
    tiny_pipeline.save_adapter(tmp_path, pipeline.nested_adapters["person"])
    pipeline.unload_nested_adapter()
    pipeline.load_nested_adapter(tmp_path)
    assert np.array_equal(case.run(pipeline, nested_adapter_image=photo(1)), first)


def test_a_failed_load_changes_nothing(case, adapters, tmp_path):
    pipeline = case.build()
    plain, cls, attributes = case.run(pipeline), type(pipeline), set(vars(pipeline.unet))
    other = tiny_pipeline.unet(block_out_channels=(32, 32), attention_head_dim=2)
    tiny_pipeline.save_adapter(tmp_path, tiny_pipeline.adapter(other))
    with pytest.raises(NestedAdapterError):
        pipeline.load_nested_adapter([adapters["person"], tmp_path], adapter_name=["one", "two"])
    assert type(pipeline) is cls
    assert set(vars(pipeline.unet)) == attributes
    assert not pipeline.nested_adapters
    assert np.array_equal(case.run(pipeline), plain)


@pytest.mark.parametrize("replace", ["slicing", "fuse", "set"])
def test_replaced_processors_are_noticed(case, adapters, replace):
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters["person"])
    if replace == "slicing":
        pipeline.unet.set_attention_slice(1)
    elif replace == "fuse":
        pipeline.fuse_qkv_projections(vae=False)
    else:
        pipeline.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(ProcessorReplacedError):
        case.run(pipeline, nested_adapter_image=photo(1))
