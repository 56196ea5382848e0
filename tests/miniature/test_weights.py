"""The bundled models: they load as a user loads them, and can do what they are for."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from diffusers_nested import miniature
from diffusers_nested.miniature import Recogniser
from diffusers_nested.miniature.evaluation import references
from diffusers_nested.miniature.sampling import sample
from recipes.miniature.bundled.recogniser import draw_views

LIMIT = 25_000_000


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return miniature.load_recogniser()


@pytest.fixture(scope="module")
def pipeline():
    return miniature.load_pipeline()


def test_weights_are_small_and_safe():
    files = [file for file in miniature.WEIGHTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt", ".md"}


def test_loads_as_any_pipeline_of_diffusers():
    pipeline = StableDiffusionXLPipeline.from_pretrained(miniature.path())
    models = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)
    assert {model.dtype for model in models} == {torch.float32}
    half = StableDiffusionXLPipeline.from_pretrained(miniature.path(), dtype=torch.float16)
    assert half.text_encoder.dtype == half.unet.dtype == torch.float16


def test_recogniser_reads_unseen_people(recogniser):
    pictures, answers = draw_views(150, 2, seed=900, held_out=True)
    _, read = recogniser.read(pictures.reshape(-1, 32, 32, 3))
    truths = [truth for row in answers for truth in row]
    # photos of bare heads: under a hat some hair styles are the same picture
    clear = [
        (r, t)
        for r, t in zip(read, truths, strict=True)
        if t["kind"] == "person" and t["scene.style"] == "photo" and t["scene.hat"] == "none"
    ]
    assert len(clear) > 50
    for trait in ("person.skin", "person.hair", "person.glasses"):
        assert np.mean([r[trait] == t[trait] for r, t in clear]) >= 0.9, trait


def test_recogniser_knows_a_person_again(recogniser):
    pictures, _ = draw_views(60, 2, seed=901, held_out=True)
    embeddings, _ = recogniser.read(pictures.reshape(-1, 32, 32, 3))
    first, second = embeddings.reshape(60, 2, -1).unbind(1)
    same = (first * second).sum(-1).mean()
    other = (first * second.roll(1, 0)).sum(-1).mean()
    assert same > 0.6 and other < 0.2


@pytest.mark.parametrize(("name", "word"), [("people", "person"), ("pets", "pet")])
def test_an_adapter_carries_unseen_identities(pipeline, recogniser, name, word):
    photos = [subject.photos()[0] for subject in references(name, 12, photos=1)]
    whose, _ = recogniser.read(np.stack(photos))
    prompts = [f"a photo of a {word} wearing a blue shirt on the beach"] * len(photos)
    pipeline.load_nested_adapter(miniature.path(name))
    pipeline.set_nested_adapter_scale(2.0)
    images = [{word: photo} for photo in photos]
    nested = sample(pipeline, prompts, range(12), num_inference_steps=10, nested_adapter_image=images)
    pipeline.unload_nested_adapter()
    scores = recogniser.read(nested)[0] @ whose.T
    others = (scores.sum() - scores.diag().sum()) / (12 * 11)
    assert scores.diag().mean() > others + 0.25


def test_examples_are_portraits_of_unseen_identities():
    assert {"mira", "otto", "miso"} <= set(miniature.examples())
    image = miniature.example("mira")
    assert image.size == (256, 256)
    with pytest.raises(ValueError, match="mira"):
        miniature.example("nobody")
    with pytest.raises(ValueError, match="people"):
        miniature.path("nothing")
