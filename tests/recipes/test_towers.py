"""Vision towers of the miniature that are not CLIPs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusers_nested import miniature
from diffusers_nested.vision import load_vision_tower
from recipes.miniature.towers import vision

FORMS = {"recogniser": ("dinov2", 65), "siglip": ("siglip_vision_model", 64)}


@pytest.mark.parametrize("name", FORMS)
def test_they_are_saved_as_an_adapter_loads_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vision, "PAIRS", 64)
    monkeypatch.setattr(vision, "BATCH", 8)
    recipe = replace(vision.RECIPE, steps=2, warmup=1)
    getattr(vision, f"train_{name}")(tmp_path, recipe)
    tower = load_vision_tower(str(tmp_path / name / "image_encoder"))
    kind, count = FORMS[name]
    settings = {"image_feature_dim": 128, "image_encoder_type": kind, "image_feature_count": count}
    assert tower.adapter_settings() == settings
    photo = miniature.example("mira").resize((32, 32), 0)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(tower.pixels([photo])[0], pixels, rtol=0, atol=1e-5)  # as in training: from -1 to 1


def test_losses_fall_when_pairs_belong_together():
    torch.manual_seed(0)
    recogniser = vision.Recogniser().eval()
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    own, _ = recogniser(pictures, pictures)
    other, _ = recogniser(pictures, pictures.roll(1, 0))
    assert own < other
