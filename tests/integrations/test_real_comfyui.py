"""The nodes in ComfyUI itself; only where COMFYUI names a checkout of it whose requirements are installed.

COMFYUI=/path/to/ComfyUI pytest tests/integrations/test_real_comfyui.py
"""

# pyright: reportMissingImports=false
import os
import sys
from collections.abc import Iterator
from typing import Any

import comfyui_stand_in as stand_in
import pytest
import torch
from comfyui_world import NEGATIVE, PROMPT, World, apply, image, run

from clip_vocabulary import sdxl_tokenizers
from diffusers_nested.backbones import layer_heads, layer_levels, layer_widths
from integrations.comfyui import nodes
from integrations.comfyui.layers import find_layers
from integrations.comfyui.positions import Prompt
from sdxl import sdxl_unet

CHECKOUT = os.environ.get("COMFYUI", "")
pytestmark = [
    pytest.mark.skipif(not CHECKOUT, reason="COMFYUI names no checkout"),
    pytest.mark.filterwarnings("ignore"),  # ComfyUI's own
]

SDXL = {
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": (1, 2, 4),
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "num_head_channels": 64,
    "context_dim": 2048,
    "adm_in_channels": 2816,
}


@pytest.fixture(scope="module")
def comfy() -> Iterator[Any]:
    """ComfyUI's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKOUT)
        patch.setattr(sys, "argv", ["comfyui", "--cpu"])
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.model_base
        import comfy.model_patcher
        import comfy.samplers
        import comfy.sd1_clip
        import comfy.sdxl_clip
        import comfy.supported_models
        import comfy.utils

        yield comfy


@pytest.fixture(scope="module")
def world(comfy: Any, tmp_path_factory: Any) -> Iterator[World]:
    import folder_paths

    with pytest.MonkeyPatch.context() as patch:
        models = tmp_path_factory.mktemp("models")
        patch.setattr(folder_paths, "models_dir", str(models))
        yield World(models)


def settings_of(**changes: Any) -> dict[str, Any]:
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "legacy": False,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "dtype": torch.float32,
        **changes,
    }


def patcher(comfy: Any, unet: Any) -> Any:
    """ComfyUI's model with the weights of a tiny UNet of diffusers."""
    settings = settings_of(
        model_channels=32,
        num_res_blocks=[1, 1],
        channel_mult=(1, 2),
        num_head_channels=16,
        transformer_depth=[1, 1],
        transformer_depth_output=[1] * 4,
        transformer_depth_middle=1,
        context_dim=40,
        adm_in_channels=unet.config.projection_class_embeddings_input_dim,
    )
    config = comfy.supported_models.SDXL(dict(settings))
    config.unet_config, config.manual_cast_dtype = dict(settings), None
    model = comfy.model_base.SDXL(config).eval()
    names = comfy.utils.unet_to_diffusers(settings)
    model.diffusion_model.load_state_dict({names[name]: value for name, value in unet.state_dict().items()})
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def y_of(unet: Any, more: dict[str, torch.Tensor]) -> torch.Tensor:
    """The conditions of a UNet of diffusers as ComfyUI's vector."""
    times = unet.add_time_proj(more["time_ids"].flatten()).unflatten(0, (len(more["time_ids"]), -1)).flatten(1)
    return torch.cat([more["text_embeds"], times], dim=-1)


def real_step(world: World, model: Any, step: tuple[Any, ...], sigma: float) -> torch.Tensor:
    """One step as ``run`` has it, in ComfyUI's own UNet."""
    x, t, states, more, _ = step
    options = {**model.model_options["transformer_options"], "sigmas": torch.full((len(x) // 2,), sigma)}
    options["cond_or_uncond"] = [1, 0]
    unet, y = model.model.diffusion_model, y_of(world.parts["unet"], more)
    with torch.inference_mode():
        return unet(x, t.expand(len(x)), context=states, y=y, transformer_options=options)


INPUTS: dict[str, dict[str, Any]] = {
    "one photo": {},
    "raised": {"scale": 2.5},
    "blended": {"scale": 0.4},
    "two photos, a mask, another word": {"image": image(3, 4), "mask": torch.ones(1, 4, 4).tril(), "word": "pet"},
}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
def test_comfyui_computes_what_its_stand_in_does(comfy, world, inputs):
    step = world.recorded(num_images_per_prompt=2)[0]
    plain = patcher(comfy, world.parts["unet"])
    model = apply(world, plain, **inputs)
    expected = run(world, apply(world, **inputs), step)
    torch.testing.assert_close(real_step(world, model, step, 5.0), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(real_step(world, plain, step, 5.0), run(world, world.model(), step), atol=1e-5, rtol=0)


def sampled(comfy: Any, world: World, model: Any, positive: Any, negative: Any, batch: int = 2) -> torch.Tensor:
    """Pictures of ComfyUI's own sampler."""
    more = {"text_embeds": torch.ones(1, 32), "time_ids": torch.ones(1, 6)}
    y = y_of(world.parts["unet"], more)
    model.model.encode_adm = lambda **kwargs: y
    noise = torch.randn(batch, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 3)
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(4.0)
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=3)


def test_comfyuis_sampler_with_subjects(comfy, world):
    plain = patcher(comfy, world.parts["unet"])
    positive, negative = world.prompt(PROMPT), world.prompt(NEGATIVE)
    before = sampled(comfy, world, plain, positive, negative)
    model = apply(world, plain)
    subjects = model.model_options["transformer_options"]["nested_adapter"]
    with_subject = sampled(comfy, world, model.clone(), positive, negative)
    assert (with_subject - before).abs().max() > 1e-2
    assert subjects._projected == []
    assert torch.equal(sampled(comfy, world, model, positive, negative), with_subject)
    assert torch.equal(sampled(comfy, world, plain, positive, negative), before)
    assert torch.equal(sampled(comfy, world, apply(world, plain, scale=0.0), positive, negative), before)
    assert not torch.equal(sampled(comfy, world, apply(world, plain, start=0.5), positive, negative), before)
    both = sampled(comfy, world, apply(world, model, word="pet", image=image(4)), positive, negative)
    assert not torch.allclose(both, with_subject, atol=1e-3)
    with pytest.raises(ValueError, match="None of the 2 conditionings"):
        sampled(comfy, world, model, world.prompt("a watercolor of a child"), negative)


def test_patched_weights_may_come_before_or_after(comfy, world):
    """As LoRA patches them."""
    plain = patcher(comfy, world.parts["unet"])
    positive, negative = world.prompt(PROMPT), world.prompt(NEGATIVE)
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    patch = {name: ("diff", (torch.ones_like(plain.model.state_dict()[name]) / 8,))}
    before = plain.clone()
    before.add_patches(patch)
    after = apply(world, plain).clone()
    after.add_patches(patch)
    first = sampled(comfy, world, apply(world, before), positive, negative)
    assert torch.equal(sampled(comfy, world, after, positive, negative), first)
    assert not torch.equal(sampled(comfy, world, apply(world, plain), positive, negative), first)


def test_areas_masks_and_long_prompts_in_comfyuis_sampler(comfy, world):
    plain = patcher(comfy, world.parts["unet"])
    first, other = world.prompt(PROMPT), world.prompt("a watercolor of a king on the beach")
    left = [[first[0][0], {**first[0][1], "area": (8, 6, 0, 0), "strength": 1.0}]]
    mask = torch.zeros(1, 8, 12)
    mask[..., 6:] = 1
    right = [[other[0][0], {**other[0][1], "mask": mask, "set_area_to_bounds": False, "mask_strength": 1.0}]]
    long = [[torch.cat([world.encode(NEGATIVE), world.encode("a photo")], 1), {}]]
    model = apply(world, plain, first)
    out = sampled(comfy, world, model, [*right, *left], long, batch=4)
    difference = (out - sampled(comfy, world, plain, [*right, *left], long, batch=4)).abs()
    assert difference[..., :6].amax() > 1e-2


TEXTS = [
    "a photo of a person",
    "a photo of a (person:1.3), smiling, with (another (person))",
    "a (very \\(tall\\) person:0.8) and a labradoodle",
    "",
    " ".join(["a long walk through the quiet old town"] * 12) + " with a labradoodle",
]


@pytest.mark.parametrize("text", TEXTS)
def test_comfyui_reads_prompts_as_its_stand_in_does(comfy, text):
    first, second = sdxl_tokenizers()
    ours = Prompt.read(stand_in.Tokenizer(g=second, l=first), text)
    theirs = Prompt.read(comfy.sdxl_clip.SDXLTokenizer(), text)
    assert theirs.readings == ours.readings and theirs.length == ours.length
    for word in ("person", "labradoodle", "(tall)"):
        if word.strip("()") in text:
            assert theirs.positions(word) == ours.positions(word)


def test_sdxls_layers_are_those_of_diffusers(comfy):
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel

    with torch.device("meta"):
        theirs = openaimodel.UNetModel(**settings_of(**SDXL), device=torch.device("meta"))
        ours = sdxl_unet()
    layers = find_layers(theirs)
    assert {path: layer.width for path, layer in layers.items()} == layer_widths(ours)
    assert {path: layer.heads for path, layer in layers.items()} == layer_heads(ours)
    assert {path: layer.level for path, layer in layers.items()} == layer_levels(ours)
    assert len(layers) == 70


def test_adapters_are_listed(comfy, world):
    assert nodes.LoadNestedAdapter.INPUT_TYPES()["required"]["adapter"][0] == ["(repository)", "humans"]
