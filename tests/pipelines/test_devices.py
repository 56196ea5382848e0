"""Number types, offloading and other ways to run a UNet, as far as a machine without an accelerator shows them."""

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from cases import CASES, PROMPT
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline
from diffusers_nested import Subject, miniature
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

CASE = CASES[0]
SUBJECTS = {"person": photo(1), "pet": [photo(2), photo(3)]}
# what rounding may change in a picture, as a part of what a subject changes
TOLERANCES = {torch.float16: 0.05, torch.bfloat16: 0.2}
HALF = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)


def build(adapters=None):
    """A pipeline that shares no module with another, as some of these ways leave hooks in all of them."""
    pipeline = StableDiffusionXLPipeline(**tiny_pipeline.components(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    if adapters is not None:
        pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def run(pipeline, **keywords):
    return CASE.run(pipeline, nested_adapter_image=SUBJECTS, **keywords)


@pytest.fixture(scope="module")
def expected(adapters):
    return run(build(adapters))


def offload_models(pipeline):
    pipeline.enable_model_cpu_offload(device="cpu")


def offload_by_layer(pipeline):
    cpu_offload(pipeline.unet, execution_device="cpu")
    assert next(pipeline.unet.parameters()).is_meta


def offload_groups(kind):
    def offload(pipeline):
        cpu = torch.device("cpu")
        settings = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        pipeline.unet.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=kind, **settings)

    return offload


def channels_last(pipeline):
    pipeline.unet.to(memory_format=torch.channels_last)


WAYS = {
    "models offloaded": offload_models,
    "layers offloaded": offload_by_layer,
    "blocks offloaded": offload_groups("block_level"),
    "leaves offloaded": offload_groups("leaf_level"),
    "channels last": channels_last,
    "VAE in tiles": lambda pipeline: pipeline.vae.enable_tiling(),
    "native attention": lambda pipeline: pipeline.unet.set_attention_backend("native"),
    "plain attention": lambda pipeline: pipeline.unet.set_attention_backend("_native_math"),
}


@pytest.mark.parametrize("order", ["nested first", "nested last"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_the_picture_is_the_same(way, order, adapters, expected):
    pipeline = build(adapters if order == "nested first" else None)
    way(pipeline)
    if order == "nested last":
        pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    for _ in range(2):
        assert np.abs(run(pipeline) - expected).max() < 1e-5
    devices = {module.device.type for module in pipeline.nested_adapters.values()}
    assert devices == {"cpu"}
    pipeline.unload_nested_adapter()
    plain = build()
    way(plain)
    assert np.array_equal(CASE.run(pipeline), CASE.run(plain))


def cast(pipeline, dtype):
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            torch.nn.Module.to(module, dtype)  # of diffusers' models, `to` warns that it may lose float32 modules
    return pipeline


@HALF
def test_half_precision_is_near_full_precision(dtype):
    """With trained weights, where a subject changes much."""

    def pictures(pipeline: Any, *calls: dict[str, Any]) -> list[np.ndarray]:
        pipeline.load_nested_adapter(miniature.path("people"))
        given = {"num_inference_steps": 4, "guidance_scale": 4.0, "output_type": "np"}
        prompt, seed = "a photo of a person on the beach", torch.Generator().manual_seed
        return [pipeline(prompt, generator=seed(0), **given, **more).images for more in calls]

    subject = {"nested_adapter_image": miniature.example("mira")}
    full, plain = pictures(miniature.load_pipeline(), subject, {})
    pipeline = cast(miniature.load_pipeline(), dtype)
    seen = set()
    for layer in cross_attention_layers(pipeline.unet).values():
        layer.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    (half,) = pictures(pipeline, subject)
    assert seen == {dtype, pipeline.nested_adapters["person"].dtype} == {dtype}
    assert np.abs(half - full).mean() < TOLERANCES[dtype] * np.abs(full - plain).mean()


@HALF
def test_scale_zero_is_plain_in_half_precision(dtype, adapters):
    pipeline = cast(build(adapters), dtype)
    plain = CASE.run(pipeline)
    pipeline.set_nested_adapter_scale(0.0)
    assert np.array_equal(run(pipeline), plain)


@HALF
def test_an_adapter_of_another_type_than_the_unet(dtype, adapters, expected):
    pipeline = build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]], torch_dtype=dtype)
    assert {adapter.dtype for adapter in pipeline.nested_adapters.values()} == {dtype}
    effect = np.abs(expected - CASE.run(pipeline)).mean()
    assert np.abs(run(pipeline) - expected).mean() < TOLERANCES[dtype] * effect


def test_gradients_reach_the_prompt_through_checkpoints(adapters):
    """Recomputed activations see the same subjects as the first time."""

    def gradient(checkpointing):
        pipeline = build(adapters)
        if checkpointing:
            pipeline.unet.train().enable_gradient_checkpointing()
        embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPT, negative_prompt="blurry")
        leaf = embeds.detach().clone().requires_grad_(True)
        found = []

        def hook(unet, args, kwargs):
            with torch.enable_grad():
                states = torch.cat([negative.detach(), leaf])
                out = type(unet).forward(unet, *args, **{**kwargs, "encoder_hidden_states": states})[0]
                found.append(torch.autograd.grad(out.square().sum(), leaf)[0])
            return args, kwargs

        # the pipeline runs without gradients, so the UNet is run again in front of its own pass
        pipeline.unet.register_forward_pre_hook(hook, with_kwargs=True)
        given = {"prompt": None, "prompt_embeds": embeds, "negative_prompt_embeds": negative}
        given |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
        subject = Subject(photo(1), adapter_name="person", token_indices=[5])
        CASE.run(pipeline, nested_adapter_image=subject, **{**given, "num_inference_steps": 1})
        return found[0]

    assert torch.allclose(gradient(True), gradient(False), atol=1e-6)
