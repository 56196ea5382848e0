"""IP-Adapters from files in the published format, compared with diffusers' own reading of them."""

import pytest
import torch
from safetensors.torch import load_file

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import BACKBONES, layer_widths
from ip_adapter_files import base_encoder, layer_weights, plus_encoder, write
from sd15 import sd15_unet
from sdxl import sdxl_unet

TOWER_WIDTH, PROJECTED = 12, 10


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def unet():
    return tiny.unet()


@pytest.fixture(scope="module", params=["base", "plus"])
def saved(request, unet, tmp_path_factory):
    """A file of each kind, as (folder, name, encoder)."""
    folder = tmp_path_factory.mktemp("ip_adapter")
    widths = list(layer_widths(unet).values())
    dim = unet.config.cross_attention_dim
    encoder = (
        base_encoder(PROJECTED, dim, random()) if request.param == "base" else plus_encoder(TOWER_WIDTH, dim, random())
    )
    write(folder / "models" / "some.safetensors", encoder, layer_weights(widths, dim, random()))
    return folder, "some.safetensors", request.param


@torch.no_grad()
def test_the_encoder_is_the_one_of_diffusers(saved, unet):
    folder, name, kind = saved
    adapter = NestedAdapter.from_ip_adapter(folder, subfolder="models", weight_name=name, unet=unet)
    theirs = tiny.unet()
    state = load_file(folder / "models" / name)
    split = {"image_proj": {}, "ip_adapter": {}}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        split[part][rest] = value
    theirs._load_ip_adapter_weights([split], low_cpu_mem_usage=False)
    features = torch.randn(2, 1, PROJECTED) if kind == "base" else torch.randn(2, 7, TOWER_WIDTH)
    read = theirs.encoder_hid_proj.image_projection_layers[0](features[:, 0] if kind == "base" else features)
    tokens = adapter.encode(features)
    torch.testing.assert_close(tokens, read, rtol=0, atol=0)
    for path, (key, value) in adapter.project(tokens).items():
        processor = theirs.get_submodule(path).processor
        torch.testing.assert_close(key, processor.to_k_ip[0](tokens), rtol=0, atol=0)
        torch.testing.assert_close(value, processor.to_v_ip[0](tokens), rtol=0, atol=0)


@pytest.mark.parametrize(("family", "index", "make"), [("sdxl", 0, sdxl_unet), ("sd15", 0, sd15_unet)])
def test_the_order_of_layers_is_that_of_the_unet(family, index, make):
    with torch.device("meta"):
        unet = make()
    layers = BACKBONES[family].base_models[index].layers
    assert list(layers.items()) == list(layer_widths(unet).items())
    theirs = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    assert list(layers) == theirs
