"""Base families beside each other: what is of one is refused by the other, and what holds for SDXL holds for both."""

import subprocess
import sys

import numpy as np
import pytest
from addons import add_image_encoder, install_beside, load_ip_adapters
from brute_force import brute_subject_of
from cases import CASES
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForText2Image,
    DDIMScheduler,
    StableDiffusionPipeline,
)

import tiny_pipeline
from diffusers_nested import AdapterLoadError
from tiny_pipeline import photo

SDXL, SD15 = (
    next(case for case in CASES if case.name == name)
    for name in ("StableDiffusionXLPipeline", "StableDiffusionPipeline")
)
TOLERANCE = 1e-4


@pytest.fixture
def adapters(case, adapters_of):
    """Those of the case's family."""
    return adapters_of(case.mechanism, case.family)


@pytest.mark.parametrize(("case", "other"), [(SDXL, "sd15"), (SD15, "sdxl")], ids=str)
def test_an_adapter_of_the_other_family_is_refused(case, other, adapters_of):
    pipeline = case.build()
    with pytest.raises(AdapterLoadError, match=f"'{other}' family, but the UNet is of the '{case.family}' family"):
        pipeline.load_nested_adapter(adapters_of("nested", other)["person"])
    assert not pipeline.nested_adapters
    assert np.array_equal(case.run(pipeline), case.plain())


def test_a_pipeline_of_the_other_family_is_refused(adapters_of):
    parts = {**tiny_pipeline.sd15_components(), "unet": tiny_pipeline.components()["unet"]}
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    with pytest.raises(AdapterLoadError, match=r"no tokenizer_2.*SDXL.*StableDiffusionXLPipeline"):
        pipeline.load_nested_adapter(adapters_of("nested")["person"])


@pytest.mark.parametrize("case", [SD15], ids=str)
def test_velocities_as_of_stable_diffusion_2(case, adapters):
    pipeline = case.build()
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, prediction_type="v_prediction")
    plain = case.run(pipeline)
    pipeline.load_nested_adapter(adapters["person"])
    assert np.array_equal(case.run(pipeline), plain)
    assert np.abs(case.run(pipeline, nested_adapter_image=photo(1)) - plain).max() > TOLERANCE


@pytest.mark.parametrize("case", [SD15], ids=str)
def test_beside_an_ip_adapter(case, adapters):
    ours, plain = add_image_encoder(case.build()), add_image_encoder(case.build())
    ours.load_nested_adapter(adapters["person"])
    for pipeline in (ours, plain):
        load_ip_adapters(pipeline, 21)
    subject = brute_subject_of(adapters["person"], [photo(1)])
    alone = case.run(plain, ip_adapter_image=photo(5))
    install_beside(plain.unet, lambda count: [[], [subject]])
    both = case.run(ours, ip_adapter_image=photo(5), nested_adapter_image=photo(1))
    assert np.abs(both - case.run(plain, ip_adapter_image=photo(5))).max() < TOLERANCE
    assert np.abs(both - alone).max() > 10 * TOLERANCE
    ours.unload_nested_adapter()
    ours.load_nested_adapter(adapters["person"])  # beside an IP-Adapter that is there
    assert np.array_equal(case.run(ours, ip_adapter_image=photo(5), nested_adapter_image=photo(1)), both)


@pytest.mark.parametrize("case", [SD15], ids=str)
def test_auto_pipelines_both_ways(case, adapters):
    ours = case.build()
    ours.load_nested_adapter(adapters["person"])
    before = case.run(ours, nested_adapter_image=photo(1))
    other = AutoPipelineForImage2Image.from_pipe(ours)
    assert type(other).__name__ == "StableDiffusionImg2ImgPipeline"
    assert list(other.nested_adapters) == ["person"]
    back = AutoPipelineForText2Image.from_pipe(other)
    back.set_progress_bar_config(disable=True)
    assert np.array_equal(case.run(back, nested_adapter_image=photo(1)), before)


REMOVED = """
import logging, sys
import diffusers
for name in ("StableDiffusionXLPAGPipeline", "KolorsPipeline", "StableDiffusionXLModularPipeline", "UNetMotionModel"):
    del diffusers._class_to_module[name]
    vars(diffusers).pop(name, None)
    assert not hasattr(diffusers, name)
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
import diffusers_nested
from diffusers_nested import NestedAdapterMixin
for name in ("StableDiffusionXLPipeline", "AnimateDiffPipeline"):
    assert getattr(diffusers, name).load_nested_adapter is NestedAdapterMixin.load_nested_adapter
"""


@pytest.mark.slow
def test_classes_that_diffusers_lacks_are_left_out():
    done = subprocess.run([sys.executable, "-c", REMOVED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("StableDiffusionXLPAGPipeline", "KolorsPipeline", "StableDiffusionXLModularPipeline"):
        assert f"has no {name}" in done.stdout
