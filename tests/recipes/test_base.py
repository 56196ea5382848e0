"""The parts of the base: attention that can be looked into, encoders, and what is measured."""

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from diffusers_nested.miniature.language import Caption
from recipes.miniature.bundled.base import TIME_IDS, spread_timesteps
from recipes.miniature.bundled.loop import learning_rate
from recipes.miniature.words import reading
from recipes.miniature.words.base import Base, assemble, bundled_vae, pixel_weights, recipe_of
from recipes.miniature.words.data import Pictures, draw_pictures
from recipes.miniature.words.encoders import Contrast, TextEncoders
from recipes.miniature.words.measure import attention, draw_task
from recipes.miniature.words.tokenizer import Encoder, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(sentences=500)


@pytest.fixture(scope="module")
def base(tokenizer) -> Base:
    torch.manual_seed(0)
    return Base(TextEncoders(tokenizer), heads=(4, 8)).eval().requires_grad_(False)


def forward(base: Base) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy, states = (torch.randn(*size, generator=generator) for size in ((2, 4, 16, 16), (2, 77, 160)))
    added = {"text_embeds": torch.ones(2, 96), "time_ids": torch.tensor(TIME_IDS).expand(2, 6)}
    return base.unet(noisy, torch.tensor([10, 500]), states, added_cond_kwargs=added).sample


def test_looking_changes_nothing_and_sees_all_attention(base):
    base.unet.set_attn_processor(AttnProcessor2_0())
    expected, ledger = forward(base), reading.Ledger(keep=True)
    reading.install(base.unet, ledger)
    assert torch.allclose(forward(base), expected, atol=1e-4)
    assert sum(weights.shape[1] for weights in ledger.weights.values()) == 44
    assert all(torch.allclose(w.sum(-1), torch.ones(())) for w in ledger.weights.values())


def test_reading_above_the_ceiling_costs_the_square_of_the_log_odds(base):
    ledger = reading.Ledger(keep=True, ceiling=0.3)
    reading.install(base.unet, ledger)
    ledger.words = torch.zeros(2, 77)
    forward(base)
    assert ledger.cost() == 0
    ledger.words[:, 1:40] = 1
    forward(base)
    read = [w[..., 1:40].sum(-1) for w in ledger.weights.values()]
    above = [((r / (1 - r)).log() - np.log(0.3 / 0.7)).clamp(min=0).square().mean() for r in read]
    assert torch.allclose(ledger.cost(), torch.stack(above).mean(), atol=1e-5)
    assert not ledger.costs


def test_a_map_that_is_its_subject_costs_nothing_and_others_their_divergence():
    ledger = reading.Ledger(floor=0.5)
    ledger.nouns, ledger.places = torch.tensor([[0, 1]]), torch.zeros(1, 32, 32)
    ledger.places[:, :16] = 1  # the upper two of four places
    there, spread = torch.tensor([0.6, 0.6, 0.0, 0.0]), torch.tensor([0.15, 0.15, 0.15, 0.15])
    for amounts, expected in ((there, 0.0), (spread, np.log(2) + np.log(0.5 / 0.15) ** 2)):
        weights = torch.zeros(1, 2, 4, 3)  # two heads, four queries; the noun is token 1
        weights[..., 1], weights[..., 0] = amounts, 1 - amounts
        ledger.write("a layer", weights)
        assert ledger.missed().item() == pytest.approx(expected, abs=2e-5)


def test_a_run_is_the_beginning_of_a_longer_one():
    short, long = recipe_of(400, whole=False), recipe_of(1000, whole=True)
    assert [learning_rate(step, short) for step in range(400)] == [learning_rate(step, long) for step in range(400)]


def test_timesteps_stay_in_range_when_the_last_number_is_all_but_one():
    steps = spread_timesteps(torch.full((16,), 1 - 2**-24), 1000)
    assert steps.max() == 999 and steps.diff().min() > 0
    assert spread_timesteps(torch.zeros(4), 1000).tolist() == [0, 250, 500, 750]


def test_ends_that_are_alike_cost_nothing(tokenizer):
    model = Contrast(tokenizer)
    ids = torch.full((2, 77), tokenizer.eos_token_id)
    ids[:, :5] = 3
    states = torch.randn(2, 77, 160)
    assert model._spread(states, ids) > 0.5
    states[1, 5:] = states[0, 5:]
    assert model._spread(states, ids) < 1e-6


@pytest.mark.parametrize("pairs", [False, True])
def test_measuring_leaves_the_pipeline_as_it_was(base, tokenizer, pairs):
    pipeline = assemble(base, tokenizer, bundled_vae())
    before = dict(pipeline.unet.attn_processors)
    found = attention(pipeline, draw_task(2, pairs))
    assert pipeline.unet.attn_processors == before
    assert found["start"] + found["padding"] + found["end"] + found["words"] == pytest.approx(1, abs=5e-3)
    assert 0 < found["person"] < found["words"] and 0 <= found["IoU of person"] <= 1
    assert ("IoU of pet" in found) == pairs


def test_pictures_are_drawn_from_the_empty_prompt_outwards(base, tokenizer):
    pipeline = assemble(base, tokenizer, bundled_vae())
    _, negative, _, _ = pipeline.encode_prompt("a person", num_images_per_prompt=1)
    empty = pipeline.encode_prompt("", num_images_per_prompt=1, do_classifier_free_guidance=False)[0]
    assert torch.equal(negative, empty) and negative.abs().sum() > 0
    picture = pipeline("a photo of a labradoodle", num_inference_steps=1, output_type="np").images
    assert picture.shape == (1, 32, 32, 3) and np.isfinite(picture).all()


def test_what_is_unread_gets_no_attention(base):
    ledger = reading.Ledger(keep=True)
    reading.install(base.unet, ledger)
    ledger.unread = torch.zeros(2, 77)
    ledger.unread[1, 5:8] = 1
    forward(base)
    assert all(w[1, ..., 5:8].max() == 0 and w[0, ..., 5:8].min() > 0 for w in ledger.weights.values())


def test_attributes_are_the_words_before_a_noun(tokenizer):
    encoder = Encoder(tokenizer)
    words = [("a", ""), ("red-haired", "attribute"), ("person", "noun 0"), ("in", ""), ("town", "place")]
    caption = Caption(tuple(words), (), ({},), ("person",))
    (flags,), (ids,) = encoder.attributes([caption]), encoder.padded([caption])[0]
    assert len(flags) == len(ids) == 77
    hidden = [number for number, flag in zip(ids, flags, strict=True) if flag]
    assert tokenizer.decode(hidden).replace(" ", "") == "red-haired"


def test_what_an_expression_decides_is_the_mouth():
    scenes, pixels, masks = draw_pictures(12, seed=3)
    pictures = Pictures(scenes, pixels, masks, torch.zeros(12, 4, 16, 16), seed=3)
    for number, scene in enumerate(scenes):
        found = pictures.of_expression(number)
        assert 4 <= found.sum() <= 20 * len(scene.subjects) and not (found & ~masks[number].any(0)).any()
    weights = pixel_weights(pictures, torch.arange(12), faces=True)
    assert weights.shape == (12, 1, 16, 16) and weights.mean().item() == pytest.approx(1)
    eights = torch.stack([torch.from_numpy(pictures.of_expression(i)) for i in range(12)]).float()
    mouth = torch.nn.functional.max_pool2d(eights[:, None], 2) > 0
    assert weights[mouth].min() > 1 > weights.min()
