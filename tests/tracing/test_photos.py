"""Where encoders look on photos: against other implementations of attention, and marks found by preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, ViTImageProcessorPil

import tiny_pipeline
from diffusers_nested.adapter.ip_encoders import LinearProjection, Resampler
from diffusers_nested.errors import NestedAdapterError
from diffusers_nested.tracing.encoder_attention import encoder_attention
from diffusers_nested.tracing.photos import on_photo, seen_part

PROCESSORS = [
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 24}),
    CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 32, "width": 32}),  # pads
    BitImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
    ViTImageProcessorPil(size={"height": 32, "width": 32}),
]


@pytest.mark.parametrize("size", [(64, 64), (120, 70), (50, 90)])
@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda one: type(one).__name__)
def test_places_are_where_the_preprocessing_has_them(processor, size):
    for x, y in ((0.5, 0.5), (0.4, 0.6), (0.55, 0.42)):
        mark = (round(x * size[0]), round(y * size[1]))
        photo = np.zeros((size[1], size[0], 3), np.uint8)
        photo[mark[1] - 3 : mark[1] + 3, mark[0] - 3 : mark[0] + 3] = 255
        seen = processor(images=[Image.fromarray(photo)], return_tensors="pt").pixel_values[0, 0]
        seen = (seen - seen.min()) / (seen.max() - seen.min())
        placed = on_photo(seen**4, seen_part(processor, size), (size[1], size[0]))
        rows, columns = torch.meshgrid(torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5, indexing="ij")
        centre = [float((placed * one).sum() / placed.sum()) for one in (columns, rows)]
        assert placed.shape == (size[1], size[0]) and np.abs(np.subtract(centre, mark)).max() < 2


def test_a_q_former_looks_where_transformers_says():
    encoder = tiny_pipeline.adapter(tiny_pipeline.unet(), qformer_num_layers=2).encoder
    features = torch.randn(2, 7, tiny_pipeline.FEATURES, generator=torch.Generator().manual_seed(0))
    found = encoder_attention(encoder, features)
    assert not any(one._forward_hooks for one in encoder.modules())
    encoder.qformer.set_attn_implementation("eager")
    queries = encoder.queries.expand(2, -1, -1)
    read = encoder.qformer(query_embeds=queries, encoder_hidden_states=features, output_attentions=True)
    expected = torch.stack([one.mean(1) for one in read.cross_attentions]).mean(0)
    assert found.shape == (2, 5, 7) and torch.allclose(found, expected, atol=1e-6)


def test_a_resampler_looks_where_diffusers_says():
    torch.manual_seed(0)
    encoder = Resampler(12, 16, hidden_dims=16, depth=2, dim_head=8, heads=2, num_queries=3).eval()
    features, seen = torch.randn(1, 6, 12), []

    class Watching:
        def __call__(self, attn, hidden_states, encoder_hidden_states, **kwargs):
            query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
            scores = attn.get_attention_scores(*[attn.head_to_batch_dim(x) for x in (query, key)])
            seen.append(scores.mean(0)[:, :6])
            return original(attn, hidden_states, encoder_hidden_states, **kwargs)

    found = encoder_attention(encoder, features)
    original = encoder.layers[0].attn.processor
    for block in encoder.layers:
        block.attn.processor = Watching()
    encoder(features)
    assert torch.allclose(found[0], torch.stack(seen).mean(0), atol=1e-6)
    with pytest.raises(NestedAdapterError, match="LinearProjection, has no queries"):
        encoder_attention(LinearProjection(12, 16, 3), torch.randn(1, 1, 12))
