"""IP-Adapters from files in the published format, compared with diffusers' own reading of them."""

import pickle
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter
from diffusers_nested.adapter.ip_adapter import read_ip_config, stored_names
from diffusers_nested.backbones import BACKBONES, layer_widths
from diffusers_nested.files import TensorInfo
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


BASE, PLUS = "image_projection", "resampler"
# The published files: base model, encoder, its settings in the file -> features, tokens, tower
FILES = {
    "sdxl": ("sdxl", base_encoder, {"features": 1280}, (BASE, 1280, 4, "sdxl_models")),
    "sdxl_vit-h": ("sdxl", base_encoder, {"features": 1024}, (BASE, 1024, 4, "models")),
    "plus_sdxl_vit-h": ("sdxl", plus_encoder, {"hidden": 1280, "heads": 20}, (PLUS, 1280, 16, "models")),
    "sd15": ("sd15", base_encoder, {"features": 1024}, (BASE, 1024, 4, "models")),
    "plus_sd15": ("sd15", plus_encoder, {"hidden": 768, "heads": 12}, (PLUS, 1280, 16, "models")),
}
WIDTHS = {"sdxl": 2048, "sd15": 768}


@pytest.mark.parametrize("name", FILES)
def test_the_published_files_are_recognised_by_their_shapes(name):
    family, encoder, sizes, (kind, features, tokens, tower) = FILES[name]
    layers = BACKBONES[family].base_models[0].layers
    with torch.device("meta"):
        given = {"features": 1280, "token_dim": WIDTHS[family], "random": None, **sizes}
        weights = encoder(**given) | layer_weights(list(layers.values()), WIDTHS[family], None)
    header = {name: TensorInfo("F16", tuple(tensor.shape)) for name, tensor in weights.items()}
    adapter = NestedAdapter.from_ip_header(header, name)
    config = adapter.config
    assert config["subject_encoder"] == kind and config["base_family"] == family
    assert (config["image_feature_dim"], config["num_queries"]) == (features, tokens)
    assert config["image_encoder"] == f"h94/IP-Adapter/{tower}/image_encoder"
    assert list(config["layers"].items()) == list(layers.items())
    if kind == PLUS:
        assert config["resampler_num_layers"] == 4
        assert (config["resampler_hidden_size"], config["resampler_num_heads"]) == (sizes["hidden"], sizes["heads"])
    stored = stored_names(list(adapter.state_dict()), config["layers"])
    expected = {}
    for own, tensor in adapter.state_dict().items():
        length, *rest = tensor.shape
        expected[stored[own].name] = (stored[own].parts * length, *rest)
    assert expected == {name: info.shape for name, info in header.items()}


def test_a_file_for_another_base_names_both(unet):
    with torch.device("meta"):
        layers = layer_weights(list(BACKBONES["sd15"].base_models[0].layers.values()), 768, None)
        header = {n: TensorInfo("F16", tuple(t.shape)) for n, t in (base_encoder(1024, 768, None) | layers).items()}
        larger = sdxl_unet()
    with pytest.raises(
        AdapterLoadError,
        match=r"it has 16 cross-attention layers \(5 of width 320, 5 of width 640, 6 of width 1280\), the UNet 70 ",
    ):
        NestedAdapter.from_ip_header(header, "ip-adapter_sd15", larger)
    wide = {**header, "ip_adapter.1.to_k_ip.weight": TensorInfo("F16", (320, 1024))}
    with torch.device("meta"), pytest.raises(AdapterLoadError, match="width 1024, but the UNet reads 768"):
        NestedAdapter.from_ip_header(wide, "ip-adapter", sd15_unet())


@pytest.mark.parametrize("number", ["9" * 5000, "٣", "-1"])
def test_numbers_that_no_layer_has(number):
    with pytest.raises(AdapterLoadError, match="0 cross-attention layers"):
        read_ip_config(
            {
                "image_proj.proj.weight": TensorInfo("F16", (4 * 40, PROJECTED)),
                f"ip_adapter.{number}.to_k_ip.weight": TensorInfo("F16", (320, 40)),
            },
            "file",
        )


def test_sizes_beyond_all_bounds_name_the_file():
    header = {"image_proj.proj.weight": TensorInfo("F16", (4 * 768, 10**6))}
    header |= {
        f"ip_adapter.{2 * i + 1}.to_k_ip.weight": TensorInfo("F16", (width, 768))
        for i, width in enumerate(BACKBONES["sd15"].base_models[0].layers.values())
    }
    with pytest.raises(AdapterLoadError, match=r"large\.safetensors cannot be loaded: image_feature_dim must be"):
        NestedAdapter.from_ip_header(header, "large.safetensors")


@torch.no_grad()
def test_saved_copied_and_pickled_it_is_the_same(saved, unet, tmp_path):
    folder, name, kind = saved
    settings = {"subject_token": "pet", "mechanism": "nested", "alpha": 3.0}
    adapter = NestedAdapter.from_ip_adapter(folder / "models" / name, unet=unet, **settings)
    adapter.save_pretrained(tmp_path)
    loaded = NestedAdapter.from_pretrained(tmp_path, unet=unet)
    features = torch.randn(1, 1, PROJECTED) if kind == "base" else torch.randn(1, 3, TOWER_WIDTH)
    for other in (loaded, deepcopy(adapter), pickle.loads(pickle.dumps(adapter))):
        assert {name: other.config[name] for name in settings} == settings
        assert other.state_dict().keys() == adapter.state_dict().keys()
        assert all(torch.equal(value, adapter.state_dict()[name]) for name, value in other.state_dict().items())
        assert torch.equal(other.encode(features), adapter.encode(features))
    again = NestedAdapter.from_config(adapter.config)
    settings = [{name: one.config[name] for name in one.config if name[0] != "_"} for one in (again, adapter)]
    assert settings[0] == settings[1] and type(again.encoder) is type(adapter.encoder)
    assert not loaded.is_ip_adapter and deepcopy(adapter).is_ip_adapter
