"""Which family a UNet is of, and what is asked of a family."""

import pytest
import torch
from diffusers import ConfigMixin, StableDiffusionPipeline, UNet2DConditionModel, UNetMotionModel

import tiny_parts
import tiny_pipeline
from diffusers_nested import NestedAdapterError
from diffusers_nested.backbones import BACKBONES, backbone_of, family_of, layer_widths
from sd15 import sd15_unet
from sdxl import sdxl_unet

SDXL, SD15 = BACKBONES["sdxl"], BACKBONES["sd15"]


@pytest.fixture(scope="module", params=list(tiny_pipeline.FAMILIES))
def family(request):
    return request.param


def test_tiny_unets(family):
    unet = tiny_pipeline.FAMILIES[family]()["unet"]
    assert family_of(unet) == backbone_of(unet).name == family
    assert family_of(tiny_parts.motion_adapter(unet)["unet"]) == family
    assert family_of(torch.compile(unet, backend="eager")) == family


@pytest.mark.parametrize(
    ("make", "family", "title"),
    [
        (sdxl_unet, "sdxl", "SDXL"),
        (sd15_unet, "sd15", "Stable Diffusion 1.5"),
        (lambda: sd15_unet(cross_attention_dim=1024), "sd15", "Stable Diffusion 2.1"),
    ],
    ids=["SDXL", "SD 1.5", "SD 2.1"],
)
def test_true_unets(make, family, title):
    with torch.device("meta"):
        unet = make()
    layers, width = layer_widths(unet), unet.config.cross_attention_dim
    assert family_of(unet) == family
    assert backbone_of(unet).base_model({"layers": layers, "token_dim": width}).title == title


OTHERS = {
    "an upscaler": {"num_class_embeds": 1000},
    "unCLIP": {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8},
    "images": {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 8},
    "pooled texts": {"addition_embed_type": "text", "encoder_hid_dim": 16},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_unets_of_other_kinds(changes):
    unet = tiny_pipeline.sd15_components(**changes)["unet"]
    assert family_of(unet) == "UNet2DConditionModel"
    with pytest.raises(NestedAdapterError, match=r"'UNet2DConditionModel'.*'sdxl'.*'sd15'"):
        backbone_of(unet)


def test_models_that_are_no_such_unets():
    assert family_of(torch.nn.Linear(2, 2)) == "Linear"
    assert family_of(None) == "NoneType"


def test_an_adapter_of_one_family_is_refused_by_the_other():
    unets = {name: make()["unet"] for name, make in tiny_pipeline.FAMILIES.items()}
    adapters = {name: tiny_pipeline.adapter(unet) for name, unet in unets.items()}
    for one, other in (("sdxl", "sd15"), ("sd15", "sdxl")):
        assert adapters[one].config["base_family"] == one
        adapters[one].check_fits(unets[one])
        with pytest.raises(NestedAdapterError, match=f"'{one}'.*'{other}'.*{BACKBONES[one].text_to_image}"):
            adapters[one].check_fits(unets[other])


def test_base_models_tell_each_other_apart():
    found = [base for backbone in BACKBONES.values() for base in backbone.base_models]
    assert len({(len(base.layers), base.token_dim) for base in found}) == len(found)


def test_the_text_of_a_pipeline():
    parts = [torch.full((2, 3, 4), 1.0), torch.full((2, 3, 4), 2.0), torch.full((2, 5), 3.0), torch.full((2, 5), 4.0)]
    assert [x is y for x, y in zip(SDXL.text(parts), (parts[0], parts[2]), strict=True)] == [True, True]
    assert [x is y for x, y in zip(SDXL.text(parts, negative=True), (parts[1], parts[3]), strict=True)] == [True, True]
    for negative in (False, True):
        words, pooled = SD15.text(parts[:2], negative)
        assert words is parts[negative] and pooled.shape == (2, 0)


def test_conditions_are_what_the_unet_takes(family):
    parts = tiny_pipeline.FAMILIES[family]()
    unet: UNet2DConditionModel = parts["unet"]
    backbone = backbone_of(unet)
    states = torch.randn(2, 5, unet.config.cross_attention_dim)
    pooled = torch.randn(2, 32 if family == "sdxl" else 0)
    frames = torch.tensor([[16.0, 24, 0, 4, 16, 16], [8, 8, 0, 0, 16, 16]])
    added = backbone.conditions(pooled, frames)
    out = unet(torch.randn(2, 4, 8, 8), 1, states, added_cond_kwargs=added).sample
    assert out.shape == (2, 4, 8, 8)
    if family == "sdxl":
        assert added["text_embeds"] is pooled
        assert added["time_ids"] is frames


def test_classes_of_videos_lack_what_tells_a_family():
    """So that they are of none, though they have layers like those of Stable Diffusion."""
    import diffusers

    named = ("UNet3DConditionModel", "UNetSpatioTemporalConditionModel", "UNetControlNetXSModel")
    for cls in (getattr(diffusers, name) for name in named):
        assert issubclass(cls, ConfigMixin)
        assert not SD15.is_config_of(dict.fromkeys(cls._get_init_keys(cls)))
    assert SD15.is_config_of(dict.fromkeys(UNetMotionModel._get_init_keys(UNetMotionModel)))


def test_a_pipeline_is_no_unet():
    pipeline = StableDiffusionPipeline(**tiny_pipeline.sd15_components(), requires_safety_checker=False)
    with pytest.raises(NestedAdapterError, match="Pass the `unet`"):
        tiny_pipeline.adapter(pipeline)  # pyright: ignore[reportArgumentType]
