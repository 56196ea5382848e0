"""SDXL's true configuration, on the meta device: no weights, no memory."""

from collections import Counter

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, IPAdapterAttnProcessor2_0
from torch import nn

from diffusers_nested import NestedAdapter
from diffusers_nested.adapter.checks import estimated_parameters
from diffusers_nested.attention import SubjectValues
from diffusers_nested.backbones import layer_widths
from diffusers_nested.files.limits import MAX_LAYERS, MAX_PARAMETERS, MAX_WIDTH
from diffusers_nested.injection.groups import LayerGroup
from diffusers_nested.injection.processor import NestedAttnProcessor
from diffusers_nested.mechanisms import get_mechanism
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


@pytest.mark.parametrize(
    ("width", "heads", "token_dim", "tokens"),
    [(640, 10, 2048, 16), (1280, 20, 2048, 16), (1280, 20, 2048, 4), (320, 8, 768, 16)],
    ids=["SDXL, outer, plus", "SDXL, inner, plus", "SDXL, inner, base", "SD 1.5, outer, plus"],
)
@torch.no_grad()
def test_a_layer_of_an_ip_adapter_is_the_one_of_diffusers(width, heads, token_dim, tokens):
    torch.manual_seed(0)
    attn = Attention(width, cross_attention_dim=token_dim, heads=heads, dim_head=width // heads)
    theirs = IPAdapterAttnProcessor2_0(width, token_dim, num_tokens=(tokens,), scale=0.7)
    nn.init.normal_(theirs.to_v_ip[0].weight, std=0.1)  # as large as the plain part
    hidden, text = torch.randn(2, 64, width), torch.randn(2, 77, token_dim)
    read = torch.randn(2, tokens, token_dim)  # of the empty image and of the photo
    attn.set_processor(theirs)
    expected = attn(hidden, (text, [read[:, None]]))

    ours = NestedAttnProcessor(AttnProcessor2_0())
    rows = [torch.tensor([row]) for row in (0, 1)]
    key, value = (
        module(read).unflatten(-1, (heads, -1)).transpose(1, 2) for module in (theirs.to_k_ip[0], theirs.to_v_ip[0])
    )  # (2, tokens, width) -> (2, heads, tokens, d)
    ours.acting = tuple(
        LayerGroup(
            rows[i],
            rows[1 - i],
            (SubjectValues(key[i : i + 1], value[i : i + 1], torch.eye(77)[3:4], scale=0.7, alpha=None),),
            get_mechanism("decoupled"),
            batch=2,
        )
        for i in range(2)
    )
    attn.set_processor(ours)
    found = attn(hidden, text)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    ours.acting = ()
    assert (attn(hidden, text) - expected).abs().max() > 0.1
