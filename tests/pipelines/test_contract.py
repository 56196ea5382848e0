"""What every pipeline must keep to with an adapter loaded.

The title of a contract is its column in the documentation's table; the docstring says there what it means.
"""

import numpy as np
import pytest
from brute_force import brute_subject_of, with_formula
from cases import CASES, EVERY_PIPELINE, EVERY_PIPELINE_AND_MECHANISM
from diffusers import StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor2_0, XFormersAttnProcessor

import tiny_pipeline
from diffusers_nested import NestedAdapterError, ProcessorReplacedError
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

TOLERANCE = 1e-4  # of pictures in 0..1, float32


@pytest.fixture
def adapters(case, adapters_of):
    """Folders of adapters of the case's mechanism and family."""
    return adapters_of(case.mechanism, case.family)


@EVERY_PIPELINE
@pytest.mark.contract("Unused")
def test_without_keywords_it_is_the_plain_pipeline(case, nested):
    """With an adapter loaded and no nested keyword, the picture is the plain pipeline's, bit for bit."""
    assert np.array_equal(case.run(nested), case.plain())


@EVERY_PIPELINE_AND_MECHANISM
@pytest.mark.contract("Scale 0")
def test_scale_zero_is_the_plain_pipeline(case, nested):
    """A subject at scale 0 gives the plain pipeline's picture, bit for bit."""
    nested.set_nested_adapter_scale(0.0)
    assert np.array_equal(case.run(nested, nested_adapter_image=photo(1)), case.plain())


@EVERY_PIPELINE_AND_MECHANISM
@pytest.mark.contract("Formula")
def test_equals_the_formula(case, nested, adapters):
    """A subject gives the picture of the paper's equations, computed plainly."""
    for scale in (0.4, 1.0, 3.0) if case.cls is StableDiffusionXLPipeline else (1.0,):
        nested.set_nested_adapter_scale(scale)
        ours = case.run(nested, nested_adapter_image=photo(1))
        subject = brute_subject_of(adapters["person"], [photo(1)], scale=scale)
        assert np.abs(ours - case.run(with_formula(case, [[subject]]))).max() < TOLERANCE
        assert np.abs(ours - case.plain()).max() > 10 * TOLERANCE


@EVERY_PIPELINE_AND_MECHANISM
@pytest.mark.contract("Two subjects")
def test_two_subjects_equal_the_formula(case, adapters):
    """Two subjects, one with two photos: each acts at its own word, by its own photos only."""
    pipeline = case.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    ours = case.run(pipeline, nested_adapter_image={"person": photo(1), "pet": [photo(2), photo(3)]})
    subjects = [
        brute_subject_of(adapters["person"], [photo(1)]),
        brute_subject_of(adapters["pet"], [photo(2), photo(3)], word="pet"),
    ]
    assert np.abs(ours - case.run(with_formula(case, [subjects]))).max() < TOLERANCE


@EVERY_PIPELINE
@pytest.mark.contract("Unload")
def test_load_and_unload_twice_leaves_no_trace(case, adapters):
    """After loading and unloading twice, the processors are the same objects and the picture is the same."""
    pipeline = case.build()
    cls = type(pipeline)
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
        assert np.array_equal(case.run(pipeline), case.plain())


@EVERY_PIPELINE_AND_MECHANISM
@pytest.mark.contract("Saved")
def test_saved_and_loaded_adapter_gives_the_same_picture(case, nested, tmp_path):
    """An adapter that was saved and loaded again gives the same picture."""
    tiny_pipeline.save_adapter(tmp_path, nested.nested_adapters["person"])
    pipeline = case.build()
    pipeline.load_nested_adapter(tmp_path)
    first = case.run(nested, nested_adapter_image=photo(1))
    assert np.array_equal(case.run(pipeline, nested_adapter_image=photo(1)), first)


@pytest.fixture(scope="module")
def misfit(tmp_path_factory):
    """Folder of an adapter that fits no case's UNet."""
    other = tiny_pipeline.unet(block_out_channels=(32, 32), attention_head_dim=2)
    return tiny_pipeline.save_adapter(tmp_path_factory.mktemp("misfit"), tiny_pipeline.adapter(other))


@EVERY_PIPELINE
@pytest.mark.contract("Failed load")
def test_a_failed_load_changes_nothing(case, adapters, misfit):
    """If one of two adapters does not fit, neither is loaded and the picture is the same."""
    pipeline = case.build()
    cls, attributes = type(pipeline), set(vars(pipeline.unet))
    with pytest.raises(NestedAdapterError):
        pipeline.load_nested_adapter([adapters["person"], misfit], adapter_name=["one", "two"])
    assert type(pipeline) is cls
    assert set(vars(pipeline.unet)) == attributes
    assert not pipeline.nested_adapters
    assert np.array_equal(case.run(pipeline), case.plain())


def _slice(unet):
    for layer in cross_attention_layers(unet).values():
        layer.set_attention_slice(1)


def _enable_xformers(unet):
    # what enabling it sets, which needs xformers itself only to run
    for layer in cross_attention_layers(unet).values():
        layer.set_processor(XFormersAttnProcessor())


REPLACE = [
    lambda unet: unet.set_attn_processor(AttnProcessor2_0()),
    _slice,
    lambda unet: unet.fuse_qkv_projections(),
    _enable_xformers,
]


@EVERY_PIPELINE
@pytest.mark.contract("Replaced")
def test_replaced_processors_are_noticed(case, adapters):
    """If something else replaces the attention processors, the next call with a subject says so."""
    for replace in REPLACE if case is CASES[0] else REPLACE[:1]:
        pipeline = case.build()
        pipeline.load_nested_adapter(adapters["person"])
        replace(pipeline.unet)
        with pytest.raises(ProcessorReplacedError):
            case.run(pipeline, nested_adapter_image=photo(1))
