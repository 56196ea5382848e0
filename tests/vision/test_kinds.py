"""Another kind of vision tower is one line in the table."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from diffusers_nested import AdapterLoadError
from diffusers_nested.files.rules import whole
from diffusers_nested.vision import load_vision_tower
from diffusers_nested.vision.kinds import LAST, TOWER_KINDS, Features, TowerKind

SIDE, PATCH, WIDTH = 16, 8, 12
SIZES = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"image_size": SIDE, "patch_size": PATCH}


def number_patches(model: Any) -> None:
    for embeddings in (module for module in model.modules() if hasattr(module, "position_ids")):
        embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))


SIGLIP = TowerKind(
    config=SiglipVisionConfig,
    model=SiglipVisionModel,
    processor=SiglipImageProcessorPil,
    settings=dict.fromkeys(SIZES, whole(1, 64)),
    part_of="siglip",
    complete=number_patches,
    features={LAST: Features(lambda output: output.last_hidden_state[:, 1:], "hidden_size")},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SiglipVisionModel(SiglipVisionConfig(**SIZES)).save_pretrained(tmp_path / "tower")
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "tower")
    return tmp_path / "tower"


def test_a_kind_that_is_not_in_the_table(folder: Path):
    with pytest.raises(AdapterLoadError, match=r"'siglip_vision_model', expected 'clip_vision_model'"):
        load_vision_tower(str(folder))


def test_a_kind_that_is_added(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TOWER_KINDS, "siglip_vision_model", SIGLIP)
    tower = load_vision_tower(str(folder))
    assert type(tower.model) is SiglipVisionModel and type(tower.processor) is SiglipImageProcessorPil
    photo = torch.rand(3, 20, 30)
    features = tower([photo])
    plain = SiglipVisionModel.from_pretrained(folder).eval()
    pixels = tower.processor(images=[photo.movedim(0, -1).mul(255).round().byte().numpy()], return_tensors="pt")
    with torch.no_grad():
        expected = plain(pixels.pixel_values).last_hidden_state[:, 1:]
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert features.shape == (1, (SIDE // PATCH) ** 2 - 1, WIDTH)
