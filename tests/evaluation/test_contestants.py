"""Each kind of contestant against a direct call of the pipeline, and what it leaves behind."""

from typing import Any

import numpy as np
import pytest
import torch
from addons import add_image_encoder, ip_adapter
from diffusers import StableDiffusionXLPipeline
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.evaluation import Reference, Shot
from diffusers_nested.evaluation.contestants import IPAdapter, Nested, Plain

CALL = {"num_inference_steps": 2, "output_type": "pil", "height": 16, "width": 16}
PROMPTS = ("a photo of a person in the snow", "a watercolor of a person on the beach")


@pytest.fixture
def pipeline() -> Any:
    made = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def shots() -> list[Shot]:
    """Two subjects, the second with two photos, in two prompts."""
    references = (
        Reference("ada", {"person": [tiny.photo(0)]}),
        Reference("ben", {"person": [tiny.photo(1), tiny.photo(2)]}),
    )
    return [Shot(one, prompt, i, 0) for one in references for i, prompt in enumerate(PROMPTS)]


def adapter_of(pipeline: Any, folder: Any, **config: Any) -> Any:
    """An adapter to which it matters much what is in the photos."""
    made = tiny.adapter(pipeline.unet, **config)
    with torch.no_grad():
        for weight in made.encoder.qformer.parameters():
            weight.mul_(30 if weight.ndim > 1 else 1)
    return tiny.save_adapter(folder, made)


def near(pictures: list, expected: list) -> bool:
    pairs = zip(pictures, expected, strict=True)
    return all(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1 for a, b in pairs)


def generated(contestant, pipeline, shots, scale: float) -> list:
    with torch.no_grad(), contestant.loaded(pipeline, CALL) as generate:
        return generate(shots, scale)


def one_by_one(pipeline, shots, **keywords: Any) -> list:
    """The pictures by a call each."""
    pictures = []
    for shot in shots:
        own = {name: value(shot) for name, value in keywords.items()}
        pictures += pipeline(shot.prompt, generator=shot.generator(), **CALL, **own).images
    return pictures


def test_plain(pipeline, shots):
    expected = one_by_one(pipeline, shots)
    pictures = generated(Plain("plain"), pipeline, shots, 0.0)
    assert near(pictures, expected)
    assert not near(pictures[:1], pictures[1:2])


@pytest.mark.parametrize("count", [2, 4], ids=["one subject", "two subjects"])
def test_nested(pipeline, shots, tmp_path, count):
    shots = shots[:count]
    folder = adapter_of(pipeline, tmp_path / "adapter")
    plain = one_by_one(pipeline, shots)
    contestant = Nested("it", [2.0], [folder])
    pictures = generated(contestant, pipeline, shots, 2.0)
    assert not pipeline.nested_adapters
    pipeline.load_nested_adapter(folder)
    pipeline.set_nested_adapter_scale(2.0)
    expected = one_by_one(pipeline, shots, nested_adapter_image=lambda shot: {"person": shot.reference.photos()})
    assert near(pictures, expected) and not near(pictures, plain)
    other = {"person": [Image.new("RGB", (16, 16), "blue")]}
    assert not near(pictures, one_by_one(pipeline, shots, nested_adapter_image=lambda shot: other))
    with pytest.raises(NestedAdapterError, match="loaded already"), contestant.loaded(pipeline, CALL):
        pass


def test_nested_with_the_first_photo_of_several(loaded_once):
    one, two = ([miniature.example(name).resize((32, 32))] for name in ("mira", "otto"))
    call = {"num_inference_steps": 2, "output_type": "pil"}
    prompt = "a photo of a person on the beach"

    def picture(photos: list, count: int | None) -> Any:
        contestant = Nested("it", [1.0], [miniature.path("people")], photos=count)
        with torch.no_grad(), contestant.loaded(loaded_once, call) as generate:
            return generate([Shot(Reference("ada", {"person": photos}), prompt, 0, 0)], 1.0)

    assert near(picture(one + two, 1), picture(one, None))
    assert not near(picture(one + two, None), picture(one, None))


def test_ip_adapter(pipeline, shots):
    add_image_encoder(pipeline)
    parts = (pipeline.image_encoder, pipeline.feature_extractor)
    processors, plain = dict(pipeline.unet.attn_processors), one_by_one(pipeline, shots)
    options = {"subfolder": "", "weight_name": [""], "image_encoder_folder": None}
    pictures = generated(IPAdapter("it", [0.7], [ip_adapter(pipeline.unet)], **options), pipeline, shots, 0.7)
    assert (pipeline.image_encoder, pipeline.feature_extractor) == parts
    assert all(now is processors[path] for path, now in pipeline.unet.attn_processors.items())
    assert near(one_by_one(pipeline, shots), plain)
    pipeline.load_ip_adapter([ip_adapter(pipeline.unet)], **options)
    pipeline.set_ip_adapter_scale(0.7)
    expected = one_by_one(pipeline, shots, ip_adapter_image=lambda shot: [shot.reference.photos()])
    assert near(pictures, expected) and not near(pictures, plain)


def test_two_adapters_act_together(pipeline, tmp_path):
    folders = [
        adapter_of(pipeline, tmp_path / word, seed=seed, subject_token=word)
        for seed, word in ((1, "person"), (5, "pet"))
    ]
    both = Reference("both", {"person": [tiny.photo(0)], "pet": [tiny.photo(1)]})
    shots = [Shot(both, "a photo of a person walking a pet in the snow", 0, 3)]
    pictures = generated(Nested("it", [1.0], folders), pipeline, shots, 1.0)
    pipeline.load_nested_adapter(folders)
    images = {"person": tiny.photo(0), "pet": tiny.photo(1)}
    assert near(pictures, one_by_one(pipeline, shots, nested_adapter_image=lambda shot: images))
