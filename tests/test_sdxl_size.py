"""SDXL's true configuration, on the meta device: no weights, no memory."""

from collections import Counter

import pytest
import torch
from diffusers import UNet2DConditionModel

from diffusers_nested import NestedAdapter
from diffusers_nested.adapter.checks import estimated_parameters
from diffusers_nested.backbones import layer_widths
from diffusers_nested.files.limits import MAX_LAYERS, MAX_PARAMETERS, MAX_WIDTH
from sdxl import sdxl_unet


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        return sdxl_unet()


def test_every_cross_attention_layer_is_found(unet):
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684  # it is SDXL
    assert Counter(layer_widths(unet).values()) == {640: 10, 1280: 60}


def test_an_adapter_fits_and_has_the_size_that_follows(unet):
    with torch.device("meta"):
        adapter = NestedAdapter(layer_widths(unet), token_dim=2048, image_feature_dim=1280, num_queries=1024)
    adapter.check_fits(unet)
    projections = sum(parameter.numel() for parameter in adapter.projections.parameters())
    assert projections == 2 * 2048 * (10 * 640 + 60 * 1280)
    tokens = torch.empty(1, 1024, 2048, device="meta")
    projected = adapter.project(tokens)
    assert {tuple(key.shape) for key, _ in projected.values()} == {(1, 1024, 640), (1, 1024, 1280)}


@pytest.mark.parametrize("num_queries", [256, 1024, 4096])
@pytest.mark.parametrize("qformer", [{}, {"qformer_hidden_size": 1024, "qformer_num_heads": 32}])
def test_limits_are_far_away(unet, num_queries, qformer):
    settings = {"token_dim": 2048, "image_feature_dim": 1280, "num_queries": num_queries, **qformer}
    with torch.device("meta"):
        adapter = NestedAdapter(layer_widths(unet), **settings)
    parameters = sum(parameter.numel() for parameter in adapter.parameters())
    assert parameters <= estimated_parameters(adapter.config) < 1.1 * parameters
    assert parameters < MAX_PARAMETERS / 5
    assert 10 * len(layer_widths(unet)) < MAX_LAYERS and MAX_WIDTH > 5 * 2048
