"""Metrics against formulas written here."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError
from diffusers_nested.evaluation import Reference, Shot, make_metric

PROMPTS = ("a photo of a person in the snow", "a watercolor of a child on the beach")


def pixels(picture: Image.Image) -> torch.Tensor:
    """(1, 3, 16, 16), normalised to mean and deviation 0.5; of pictures that need no resizing."""
    return torch.tensor(np.asarray(picture) / 255.0, dtype=torch.float32).permute(2, 0, 1)[None] * 2 - 1


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.flatten(), other.flatten()
    return float(one @ other / (one.norm() * other.norm()))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A CLIP with random weights, in a folder as it is published."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(3)
    text, image = tiny.text_config(16), tiny.image_encoder().config
    config = CLIPConfig(
        text_config=CLIPTextConfig(**{**text.to_dict(), "max_position_embeddings": 20}).to_dict(),
        vision_config=CLIPVisionConfig(**{**image.to_dict(), "projection_dim": 8}).to_dict(),
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    size = {"height": 16, "width": 16}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size, **half).save_pretrained(folder)
    return folder


@pytest.fixture
def references() -> list[Reference]:
    return [Reference("ada", {"person": [tiny.photo(0), tiny.photo(1)]}), Reference("ben", {"person": [tiny.photo(2)]})]


@pytest.fixture
def shots(references) -> list[Shot]:
    return [Shot(one, prompt, 0, 0) for one, prompt in zip(references, PROMPTS, strict=True)]


PICTURES = [tiny.photo(7), tiny.photo(8)]


def test_clip_text(clip, shots):
    scores = make_metric("text", {"kind": "clip-text", "model": str(clip)}).score(PICTURES, shots, None)
    model = CLIPModel.from_pretrained(clip).eval()
    for score, picture, prompt in zip(scores, PICTURES, PROMPTS, strict=True):
        ids = torch.tensor([tiny.tokenizer()(prompt)["input_ids"]])
        with torch.no_grad():
            seen = model.visual_projection(model.vision_model(pixels(picture)).pooler_output)
            read = model.text_projection(model.text_model(ids).pooler_output)
        assert score == {"text": pytest.approx(cosine(seen, read), abs=1e-5)}
    assert scores[0]["text"] != pytest.approx(scores[1]["text"], abs=1e-4)


def test_clip_text_reads_prompts_longer_than_its_encoder(clip, references):
    long = [Shot(references[0], "a photo of a person " * 20, 0, 0)]
    (score,) = make_metric("text", {"kind": "clip-text", "model": str(clip)}).score(PICTURES[:1], long, None)
    assert score["text"] is not None and abs(score["text"]) <= 1


def test_clip_image_is_the_mean_over_photos(clip, references, shots):
    metric = make_metric("image", {"kind": "clip-image", "model": str(clip)})
    metric.check(references)
    scores = metric.score(PICTURES, shots, None)
    model = CLIPModel.from_pretrained(clip).eval()

    def embed(picture: Image.Image) -> torch.Tensor:
        with torch.no_grad():
            return model.visual_projection(model.vision_model(pixels(picture)).pooler_output)

    expected = np.mean([cosine(embed(PICTURES[0]), embed(photo)) for photo in references[0].photos()])
    assert scores[0] == {"image": pytest.approx(expected, abs=1e-5)}
    assert scores[1] == {"image": pytest.approx(cosine(embed(PICTURES[1]), embed(tiny.photo(2))), abs=1e-5)}


def test_dino_is_the_class_token(tmp_path, references, shots):
    torch.manual_seed(4)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "crop_size": {"height": 16, "width": 16}}
    BitImageProcessorPil(size={"shortest_edge": 16}, **half).save_pretrained(tmp_path)
    metric = make_metric("image", {"kind": "dino", "model": str(tmp_path)})
    metric.check(references)
    with torch.no_grad():
        picture, photo = (model(pixels(image)).last_hidden_state[0, 0] for image in (PICTURES[1], tiny.photo(2)))
    assert metric.score(PICTURES, shots, None)[1] == {"image": pytest.approx(cosine(picture, photo), abs=1e-5)}


def test_identity_by_a_function_of_the_user(shots, references):
    metric = make_metric("identity", {"kind": "identity", "embed": "contestants:embed"})
    black, red = Image.new("RGB", (16, 16)), Image.new("RGB", (16, 16), (200, 0, 0))
    metric.check([Reference("ada", {"person": [black]}), Reference("ben", {"person": [red, black]})])
    nobody = Image.new("RGB", (16, 16), (1, 0, 0))
    rows = metric.score([red, nobody], shots, None)
    # (100, -100, -100) against (-100, -100, -100)
    assert rows == [{"identity": pytest.approx(1 / 3)}, {"identity": None}]
    with pytest.raises(NestedAdapterError, match=r"photo 2 .*'ada'"):
        metric.check([Reference("ada", {"person": [black, nobody]})])
    with pytest.raises(NestedAdapterError, match="person, pet"):
        metric.check([Reference("both", {"person": [black], "pet": [red]})])
    with pytest.raises(NestedAdapterError, match="'dog'"):
        make_metric("identity", {"kind": "identity", "embed": "contestants:embed", "word": "dog"}).check(references)


def test_identity_of_another(shots):
    metric = make_metric("another", {"kind": "identity", "embed": "contestants:embed", "another": True})
    black, red = Image.new("RGB", (16, 16)), Image.new("RGB", (16, 16), (200, 0, 0))
    metric.check([Reference("ada", {"person": [black]}), Reference("ben", {"person": [red]})])
    rows = metric.score([red, red], shots, None)  # of ada against ben's photo, and of ben against ada's
    assert rows == [{"another": pytest.approx(1.0)}, {"another": pytest.approx(1 / 3)}]
    with pytest.raises(NestedAdapterError, match="only one subject"):
        metric.check([Reference("ada", {"person": [black]})])


def test_outside_counts_what_is_outside(shots):
    plain = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    changed = np.zeros((10, 20, 3), np.uint8)
    changed[:, 5:15] = 255  # inside
    changed[0, 0] = (255, 0, 0)  # outside: one of 10 · 20 − 10 · 10 pixels, in one channel
    metric = make_metric("outside", {"kind": "outside", "box": [0.25, 0.0, 0.75, 1.0]})
    assert metric.needs_plain
    (row,) = metric.score([Image.fromarray(changed)], shots[:1], [plain])
    assert row == {"outside": pytest.approx(1 / 100 / 3)}
    with pytest.raises(NestedAdapterError, match="one size"):
        metric.score([Image.fromarray(changed)], shots[:1], [plain.resize((5, 5))])


@pytest.mark.parametrize("given", ["dlib", {"kind": "outside", "box": "face"}])
@pytest.mark.parametrize("missing", ["dlib", "face_recognition_models"])
def test_faces_name_their_extra(given, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", ModuleType("dlib"))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NestedAdapterError, match="the extra 'faces'"):
        make_metric("identity", given)
