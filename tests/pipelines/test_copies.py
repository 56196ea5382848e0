"""Pipelines made from one another, copied, pickled and saved, with adapters loaded."""

import copy
import hashlib
import pickle

import numpy as np
import pytest
from cases import CASES
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPAGPipeline,
    StableDiffusionXLPipeline,
)

import tiny_parts
import tiny_pipeline
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
BY_NAME = {str(case): case for case in CASES}
SUBJECT = {"nested_adapter_image": {"person": photo(1), "pet": photo(2)}}


def build(adapters=None):
    pipeline = StableDiffusionXLPipeline(**tiny_pipeline.components(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    if adapters is not None:
        pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def case_of(pipeline):
    return BY_NAME[type(pipeline).__name__]


def run(pipeline, **keywords):
    pipeline.set_progress_bar_config(disable=True)
    return case_of(pipeline).run(pipeline, **keywords)


@pytest.mark.parametrize(
    "cls",
    [StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLPAGPipeline],
    ids=lambda cls: cls.__name__,
)
def test_from_pipe_and_back(cls, adapters):
    ours = build(adapters)
    more = {"pag_applied_layers": ["mid"]} if cls is StableDiffusionXLPAGPipeline else {}
    before = run(ours, **SUBJECT)
    other = cls.from_pipe(ours, **more)
    assert type(other).__name__ == cls.__name__
    assert list(other.nested_adapters) == ["person", "pet"]
    with_subjects = run(other, **SUBJECT)
    assert isinstance(other, cls)
    # the same pipeline, made first and loaded then
    fresh = cls.from_pipe(build(), **more)
    fresh.load_nested_adapter([adapters["person"], adapters["pet"]])
    assert np.array_equal(with_subjects, run(fresh, **SUBJECT))
    assert not np.array_equal(with_subjects, run(other))
    back = StableDiffusionXLPipeline.from_pipe(other)
    assert np.array_equal(run(back, **SUBJECT), before)


def test_from_pipe_with_more_parts(adapters):
    ours = build(adapters)
    other = StableDiffusionXLControlNetPipeline.from_pipe(ours, **tiny_parts.controlnet(ours.unet))
    assert not np.array_equal(run(other, **SUBJECT), run(other))


@pytest.mark.parametrize(
    ("auto", "cls"),
    [
        (AutoPipelineForImage2Image, StableDiffusionXLImg2ImgPipeline),
        (AutoPipelineForInpainting, StableDiffusionXLInpaintPipeline),
        (AutoPipelineForText2Image, StableDiffusionXLPipeline),
    ],
    ids=lambda each: each.__name__,
)
def test_auto_pipelines_both_ways(auto, cls, adapters):
    other = auto.from_pipe(build(adapters))
    assert type(other).__name__ == cls.__name__
    with_subjects = run(other, **SUBJECT)
    fresh = cls.from_pipe(build())
    fresh.load_nested_adapter([adapters["person"], adapters["pet"]])
    assert np.array_equal(with_subjects, run(fresh, **SUBJECT))
    back = AutoPipelineForText2Image.from_pipe(other)
    assert type(back).__name__ == "StableDiffusionXLPipeline"
    assert np.array_equal(run(back, **SUBJECT), run(build(adapters), **SUBJECT))


def test_unloading_through_one_pipeline_unloads_from_all(adapters):
    ours = build(adapters)
    other = StableDiffusionXLImg2ImgPipeline.from_pipe(ours)
    other.unload_nested_adapter()
    assert not ours.nested_adapters
    assert np.array_equal(run(ours), CASE.plain())
    assert type(other) is StableDiffusionXLImg2ImgPipeline


def files_of(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_saved_files_are_the_same_with_and_without_adapters(adapters, tmp_path):
    pipeline = build()
    run(pipeline)  # a tokenizer that has been used says in its file how it was
    pipeline.save_pretrained(tmp_path / "plain")
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    run(pipeline, **SUBJECT)
    pipeline.save_pretrained(tmp_path / "loaded")
    pipeline.unload_nested_adapter()
    pipeline.save_pretrained(tmp_path / "unloaded")
    assert files_of(tmp_path / "plain") == files_of(tmp_path / "loaded") == files_of(tmp_path / "unloaded")
    again = StableDiffusionXLPipeline.from_pretrained(tmp_path / "loaded", add_watermarker=False)
    assert np.array_equal(run(again), run(build()))


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda pipeline: pickle.loads(pickle.dumps(pipeline))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=list(COPIES))
def test_a_copy_has_adapters_of_its_own(copied, adapters):
    ours = build(adapters)
    ours.set_nested_adapter_scale(2.0)
    other = copied(ours)  # before the first call, in which transformers puts hooks that cannot be pickled
    before = run(ours, **SUBJECT)
    assert np.array_equal(run(other, **SUBJECT), before)
    assert type(other) is type(ours)
    processors = {path: layer.processor for path, layer in cross_attention_layers(ours.unet).items()}
    other.set_nested_adapter_scale(0.5)
    other.unload_nested_adapter("pet")
    other.unload_nested_adapter()
    assert type(other) is StableDiffusionXLPipeline
    assert np.array_equal(run(other), CASE.plain())
    # and the first one has not changed
    assert {path: layer.processor for path, layer in cross_attention_layers(ours.unet).items()} == processors
    assert list(ours.nested_adapters) == ["person", "pet"]
    assert np.array_equal(run(ours, **SUBJECT), before)


@pytest.mark.parametrize("copied", COPIES.values(), ids=list(COPIES))
def test_a_copy_of_the_unet_alone(copied, adapters):
    ours = build(adapters)
    unet = copied(ours.unet)
    assert set(unet.state_dict()) == set(ours.unet.state_dict())
    other = build()
    other.unet = unet
    assert list(other.nested_adapters) == ["person", "pet"]
    assert np.array_equal(run(other, **SUBJECT), run(ours, **SUBJECT))


def test_weights_of_a_unet_saved_and_loaded_alone(adapters, tmp_path):
    ours = build(adapters)
    ours.unet.save_pretrained(tmp_path)
    unet = type(ours.unet).from_pretrained(tmp_path)
    other = StableDiffusionXLPipeline(**{**build().components, "unet": unet}, add_watermarker=False)
    other.set_progress_bar_config(disable=True)
    assert not other.nested_adapters
    assert np.array_equal(run(other), CASE.plain())


def test_components_are_those_of_the_pipeline(adapters):
    assert list(build(adapters).components) == list(build().components)
    again = StableDiffusionXLPipeline(**build(adapters).components, add_watermarker=False)
    assert np.array_equal(run(again, **SUBJECT), run(build(adapters), **SUBJECT))
