"""Adapters of two vision towers on disk."""

import json
from pathlib import Path
from typing import Any

import tiny_towers as towers
from diffusers_nested.vision import ImageEncoders, load_vision_tower

CLIP, DINO = 12, 20  # widths


def save_pair(folder: Path, first: str = "clip", second: str = "dinov2 with registers", **changes: Any) -> Path:
    towers.save(folder, first, 1, width=CLIP, seed=1)
    towers.save(folder, second, 2, width=DINO, seed=2, **changes)
    return folder


def pair(folder: Path) -> ImageEncoders:
    encoders = load_vision_tower([str(folder / "image_encoder"), str(folder / "image_encoder_2")])
    assert isinstance(encoders, ImageEncoders)
    return encoders


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in {**config, **changes}.items() if value != "leave out"}
    (folder / "config.json").write_text(json.dumps(config))
