"""Pipelines in which no adapter can act say so at load, and are left as they were."""

import diffusers
import pytest
from cases import CASES
from diffusers import LEditsPPPipelineStableDiffusionXL, StableDiffusionPipeline, StableDiffusionXLPipeline

import tiny_pipeline
from diffusers_nested import AdapterLoadError, NestedAdapterMixin
from diffusers_nested.backbones import cross_attention_layers
from diffusers_nested.pipelines import SUPPORTED
from diffusers_nested.pipelines.refused import REFUSED


def bare(cls: type):
    """A pipeline of which only the UNet is there, made without the packages that its other parts may need."""
    made = object.__new__(cls)
    made.__dict__["unet"] = tiny_pipeline.components()["unet"]
    return made


def is_refused(pipeline, folder, match: str) -> None:
    before = {path: layer.processor for path, layer in cross_attention_layers(pipeline.unet).items()}
    attributes, cls = set(vars(pipeline.unet)), type(pipeline)
    with pytest.raises(AdapterLoadError, match=match):
        pipeline.load_nested_adapter(folder)
    assert type(pipeline) is cls
    assert set(vars(pipeline.unet)) == attributes
    assert all(layer.processor is before[path] for path, layer in cross_attention_layers(pipeline.unet).items())


def test_ledits_is_refused(adapters):
    parts = tiny_pipeline.components()
    is_refused(LEditsPPPipelineStableDiffusionXL(**parts, add_watermarker=False), adapters["person"], "Img2Img")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_pipelines_name_themselves_and_another(name, adapters):
    another = r"([Uu]se|such as) (StableDiffusion|AnimateDiff)\w*Pipeline"
    is_refused(bare(getattr(diffusers, name)), adapters["person"], rf"{name}: .*{another}")


@pytest.mark.parametrize("base", [LEditsPPPipelineStableDiffusionXL, StableDiffusionPipeline, object])
def test_own_classes_of_them_are_refused(base, adapters):
    class Mine(NestedAdapterMixin, base):
        pass

    is_refused(bare(Mine), adapters["person"], "Mine")


def test_own_pipeline_without_encode_prompt_is_refused(adapters):
    class Mine(NestedAdapterMixin):
        tokenizer_2 = None

    is_refused(bare(Mine), adapters["person"], "encode_prompt")


def test_text_encoders_may_be_left_out(adapters):
    parts = tiny_pipeline.components()
    missing = dict.fromkeys(("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"))
    pipeline = StableDiffusionXLPipeline(**{**parts, **missing}, add_watermarker=False)
    pipeline.load_nested_adapter(adapters["person"])
    assert list(pipeline.nested_adapters) == ["person"]


def test_every_supported_pipeline_is_under_the_contracts():
    assert {case.name for case in CASES} == set(SUPPORTED)
    assert not set(SUPPORTED) & set(REFUSED)
