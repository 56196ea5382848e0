"""Towers of every family: their files, and their features against the family's own forward pass."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionModel, SiglipConfig, SiglipModel, ViTForImageClassification

import tiny_pipeline as tiny
import tiny_towers as towers
from diffusers_nested import AdapterLoadError
from diffusers_nested.vision import ImageEncoder, load_vision_tower
from diffusers_nested.vision.kinds import LAST, PENULTIMATE, POOLED, Features, TowerKind
from diffusers_nested.vision.registry import TOWER_KINDS

FAMILIES = sorted(towers.FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("towers")
    return {name: towers.save(top / name, name) for name in FAMILIES}


def without_registers(states: Tensor, model: Any) -> Tensor:
    keep = [i for i in range(states.shape[1]) if not 1 <= i <= getattr(model.config, "num_register_tokens", 0)]
    return states[:, keep]


@torch.no_grad()
def own_features(family: str, folder: Path, pixels: Tensor) -> dict[str, Tensor]:
    """By transformers' own loading and forward pass."""
    model = towers.FAMILIES[family][1].from_pretrained(folder).eval()
    output = model(pixels, output_hidden_states=True)
    found = {
        LAST: without_registers(output.last_hidden_state, model),
        PENULTIMATE: without_registers(output.hidden_states[1], model),  # of two layers: between them
    }
    if family == "clip":
        found[POOLED] = output.image_embeds[:, None]
    elif family == "siglip":
        found[POOLED] = output.pooler_output[:, None]
    elif family != "clip without projection":
        found[POOLED] = output.last_hidden_state[:, :1]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_familys_own(family, folders):
    encoder = load_vision_tower(str(folders[family]))
    photos = [tiny.photo(0, 20), tiny.photo(1, 16)]
    pixels = towers.processor(family)(images=photos, return_tensors="pt").pixel_values
    expected = own_features(family, folders[family], pixels)
    assert expected[LAST].shape[1] == towers.FAMILIES[family][4]
    for name, values in expected.items():
        found = encoder(photos, name)
        torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-5)
        assert (encoder.count_of(name), encoder.width_of(name)) == found.shape[1:]
        assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert encoder.empty().shape == (1, encoder.count_of(LAST), encoder.feature_dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_files_with_either_names_of_the_tensors(family, folders, tmp_path):
    """Those of this version's models, and those that published files have, in a part of a larger model."""
    prefix = {"siglip": "vision_model.", "vit": "vit.", "clip without projection": "vision_model."}
    expected = load_vision_tower(str(folders[family]))([tiny.photo()])
    for name, weights in {
        "as published": load_file(folders[family] / "model.safetensors"),
        "as in memory": towers.FAMILIES[family][1].from_pretrained(folders[family]).state_dict(),
    }.items():
        bare = {tensor.removeprefix("vision_model."): values for tensor, values in weights.items()}
        larger = {f"{prefix[family]}{tensor}": values for tensor, values in bare.items()} if family in prefix else bare
        for part, tensors in {"bare": bare, "larger": {**larger, "classifier.bias": torch.zeros(3)}}.items():
            if family == "clip" and part == "bare":
                continue
            folder = tmp_path / name / part
            folder.mkdir(parents=True)
            save_file(tensors, folder / "model.safetensors")
            for copied in ("config.json",):
                (folder / copied).write_bytes((folders[family] / copied).read_bytes())
            towers.processor(family).save_pretrained(folder)
            assert torch.equal(load_vision_tower(str(folder))([tiny.photo()]), expected)


def test_the_vision_part_of_a_full_model(tmp_path):
    """Of SigLIP, beside a text tower with tensors of the same names."""
    vision = towers.model("siglip").config.to_dict()
    text = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(vision_config=vision, text_config={**text, "vocab_size": 20})
    torch.manual_seed(0)
    full = SiglipModel(config).eval()
    full.save_pretrained(tmp_path)
    towers.processor("siglip").save_pretrained(tmp_path)
    encoder, pixels = load_vision_tower(str(tmp_path)), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = full.vision_model(pixels)
    torch.testing.assert_close(encoder.read(pixels), expected.last_hidden_state, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoder.read(pixels, POOLED)[:, 0], expected.pooler_output, rtol=1e-5, atol=1e-6)


def test_a_classifier_gives_the_embedding_that_its_head_reads(tmp_path):
    """As recognisers of faces do."""
    config = towers.model("vit").config
    config.num_labels = 5
    torch.manual_seed(0)
    classifier = ViTForImageClassification(config).eval()
    classifier.save_pretrained(tmp_path)
    towers.processor("vit").save_pretrained(tmp_path)
    pixels = torch.rand(2, 3, 16, 16)
    embedding = load_vision_tower(str(tmp_path)).read(pixels, POOLED)
    with torch.no_grad():
        torch.testing.assert_close(classifier.classifier(embedding[:, 0]), classifier(pixels).logits)


def test_a_tower_without_the_part_that_pools(folders, tmp_path):
    encoder = load_vision_tower(str(folders["clip without projection"]))
    assert type(encoder.model) is CLIPVisionModel
    headless = towers.save(tmp_path, "siglip", vision_use_head=False)
    for one in (encoder, load_vision_tower(str(headless))):
        assert one([tiny.photo()]).shape[-1] == 12
        with pytest.raises(AdapterLoadError, match=r"no features of the kind 'pooled'.*last, penultimate"):
            one([tiny.photo()], POOLED)


def test_dinov2_reads_pictures_of_another_size(folders, tmp_path):
    """As the published ones, which are made for 518 pixels and used at 224."""
    folder = towers.save(tmp_path, "dinov2")
    crop = {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}}
    kind = towers.FAMILIES["dinov2"][2]
    kind(**crop).save_pretrained(tmp_path / "feature_extractor")
    encoder = load_vision_tower(str(folder))
    assert encoder([tiny.photo(0, 40)]).shape == (1, 1 + 9, 12) and encoder.count_of(LAST) == 10
    assert encoder.empty().shape == (1, 10, 12)
    for size, why in {
        (24, None): "of the photo's own shape",
        (28, 4): "pictures of 4 x 4 pixels",
        (28, 1024): "1 to 4096 patches of 8 x 8",
    }.items():
        shortest, side = size
        crop = {"do_center_crop": False} if side is None else {"crop_size": {"height": side, "width": side}}
        kind(size={"shortest_edge": shortest}, **crop).save_pretrained(tmp_path / "feature_extractor")
        with pytest.raises(AdapterLoadError, match=why):
            load_vision_tower(str(folder))


@pytest.mark.parametrize("family", ["siglip", "vit"])
def test_other_families_do_not(family, tmp_path):
    folder = towers.save(tmp_path, family)
    towers.FAMILIES[family][2](size={"height": 24, "width": 24}).save_pretrained(tmp_path / "feature_extractor")
    with pytest.raises(AdapterLoadError, match="24 x 24 pixels, but the image encoder expects 16 x 16"):
        load_vision_tower(str(folder))


def test_dinov2_without_preprocessing_is_prepared_as_published(tmp_path):
    towers.model("dinov2", image_size=32).save_pretrained(tmp_path / "tower")
    processor = load_vision_tower(str(tmp_path / "tower")).processor
    assert processor.size["shortest_edge"] == 256 and processor.crop_size["height"] == 224
    assert tuple(processor.image_mean) == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("model_type", "named"),
    [
        ("beit", r"'beit', expected 'clip_vision_model' or 'dinov2' or .*'siglip_vision_model' or 'vit'"),
        ("siglip2", "SigLIP2 with a fixed size of pictures, which is of the model_type 'siglip'"),
    ],
)
def test_a_kind_that_is_not_in_the_table(model_type, named, folders, tmp_path):
    config = json.loads((folders["vit"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    with pytest.raises(AdapterLoadError, match=named):
        load_vision_tower(str(tmp_path))


def test_a_kind_that_is_added(folders, monkeypatch):
    vit = TOWER_KINDS["vit"]
    rows = {LAST: Features(lambda output, config: output.last_hidden_state[:, 1:])}
    monkeypatch.setitem(TOWER_KINDS, "vit", TowerKind(**{**vars(vit), "features": rows, "tokens": lambda _, n: n}))
    encoder = load_vision_tower(str(folders["vit"]))
    assert encoder([tiny.photo()]).shape == (1, towers.PATCHES, 12) and encoder.count_of(LAST) == towers.PATCHES


def test_a_tower_in_half_precision(folders):
    for family in FAMILIES:
        encoder = load_vision_tower(str(folders[family]), torch.float16)
        assert isinstance(encoder, ImageEncoder) and encoder([tiny.photo()]).dtype == torch.float16
        assert torch.isfinite(encoder([tiny.photo()])).all()
