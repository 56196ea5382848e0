"""A new adapter: a copy of the layers' own projections, which encodes, projects and learns."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from adapter_files import LAYER, same_bits, snapshot
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.backbones import layer_widths
from diffusers_nested.errors import NestedAdapterError
from tiny import FEATURES, TOKEN_DIM, tiny_adapter, tiny_unet


def test_starts_from_the_layers_own_keys_and_values(unet: UNet2DConditionModel, adapter: NestedAdapter):
    tokens = torch.randn(2, 3, TOKEN_DIM)
    projected = adapter.project(tokens)
    assert set(projected) == set(layer_widths(unet))
    for path, (key, value) in projected.items():
        layer = unet.get_submodule(path)
        torch.testing.assert_close(key, layer.to_k(tokens), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(value, layer.to_v(tokens), rtol=1e-6, atol=1e-6)


def test_is_a_copy_and_not_the_layers_own_weights():
    unet = tiny_unet()
    before = snapshot(unet)
    adapter = tiny_adapter(unet)
    assert snapshot(unet) == before
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(7)
    assert snapshot(unet) == before
    assert all(parameter.requires_grad for parameter in adapter.parameters())


def test_of_a_half_precision_unet_is_in_full_precision():
    unet = tiny_unet().half()
    adapter = tiny_adapter(unet)
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
    expected = unet.get_submodule(LAYER).to_k.weight.float()
    assert same_bits(adapter.state_dict()[f"projections.{LAYER}.key.weight"], expected)


def test_config_says_what_it_is_for(unet: UNet2DConditionModel):
    config = tiny_adapter(unet, subject_token="pet", alpha=None).config
    assert config["layers"] == layer_widths(unet)
    assert (config["token_dim"], config["image_feature_dim"], config["num_queries"]) == (
        TOKEN_DIM,
        FEATURES,
        4,
    )
    assert (config["subject_token"], config["alpha"], config["mechanism"]) == ("pet", None, "nested")
    assert (config["base_family"], config["format_version"]) == ("sdxl", 1)


def test_encode_and_project(adapter: NestedAdapter):
    features = torch.randn(3, 7, FEATURES)
    tokens = adapter.encode(features)
    assert tokens.shape == (3, 4, TOKEN_DIM)
    for path, (key, value) in adapter.project(tokens).items():
        assert key.shape == value.shape == (3, 4, adapter.config["layers"][path])
        weights = adapter.state_dict()
        expected = torch.einsum("bnd,wd->bnw", tokens, weights[f"projections.{path}.key.weight"])
        torch.testing.assert_close(key, expected, rtol=1e-5, atol=1e-6)
        expected = torch.einsum("bnd,wd->bnw", tokens, weights[f"projections.{path}.value.weight"])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_call_encodes_and_projects(adapter: NestedAdapter):
    features = torch.randn(2, 7, FEATURES)
    projected = adapter(features)
    for path, pair in adapter.project(adapter.encode(features)).items():
        assert all(same_bits(left, right) for left, right in zip(projected[path], pair, strict=True))


def test_tokens_of_several_images_are_projected_as_if_alone(adapter: NestedAdapter):
    first, second = torch.randn(2, 1, 4, TOKEN_DIM)
    together = adapter.project(torch.cat([first, second], dim=1))
    for path, (key, _) in together.items():
        torch.testing.assert_close(key[:, :4], adapter.project(first)[path][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(key[:, 4:], adapter.project(second)[path][0], rtol=1e-5, atol=1e-6)


def test_gradient_reaches_every_projection_and_the_queries():
    adapter = tiny_adapter()
    total = sum(
        (k * torch.randn_like(k)).sum() + (v * torch.randn_like(v)).sum()
        for k, v in adapter(torch.randn(2, 7, FEATURES)).values()
    )
    total.backward()
    trained = [p for name, p in adapter.named_parameters() if name.startswith("projections.")]
    assert len(trained) == 2 * len(adapter.config["layers"])
    assert all(parameter.grad.any() for parameter in [*trained, adapter.encoder.queries])


@pytest.mark.parametrize("shape", [(7, FEATURES), (1, 7, FEATURES + 1), (1, 1, 7, FEATURES)])
def test_features_of_a_wrong_shape(adapter: NestedAdapter, shape: tuple[int, ...]):
    with pytest.raises(NestedAdapterError, match=str(FEATURES)):
        adapter.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, TOKEN_DIM), (1, 4, TOKEN_DIM - 1), (1, 1, 4, TOKEN_DIM)])
def test_tokens_of_a_wrong_shape(adapter: NestedAdapter, shape: tuple[int, ...]):
    with pytest.raises(NestedAdapterError, match=str(TOKEN_DIM)):
        adapter.project(torch.zeros(shape))


def test_of_a_compiled_unet_is_that_of_the_unet(unet: UNet2DConditionModel, adapter: NestedAdapter):
    compiled = tiny_adapter(torch.compile(tiny_unet(), backend="eager"))
    assert compiled.config["layers"] == adapter.config["layers"]
    assert all(same_bits(compiled.state_dict()[name], x) for name, x in adapter.state_dict().items())


def test_its_configuration_makes_another_one():
    """Also where arguments were given by their position, as from_unet gives the layers."""
    adapter = NestedAdapter({"mid_block.attn2": 8}, 40, 8, num_queries=2)
    again = NestedAdapter.from_config(adapter.config)
    names = ("layers", "token_dim", "image_feature_dim", "num_queries", "qformer_hidden_size")
    assert all(again.config[name] == adapter.config[name] for name in names)
