"""What is done to a published adapter: to its configs, its weights, its image encoder and the preprocessing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
TOWER = "image_encoder/model.safetensors"


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_weights(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def fill(path: Path, value: float) -> None:
    edit_weights(path, lambda weights: next(iter(weights.values())).fill_(value))


def config(**values: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / "config.json", **values)


def tower(**values: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / "image_encoder" / "config.json", **values)


def processor(**values: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / "feature_extractor" / "preprocessor_config.json", **values)


def pickled(folder: Path, name: str) -> None:
    torch.save(load_file(folder / name), (folder / name).with_suffix(".bin"))
    (folder / name).unlink()


def times(name: str, factor: float, only: str = "") -> Callable[[Path], Any]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights.update({key: x * factor for key, x in weights.items() if only in key})

    return lambda folder: edit_weights(folder / name, change)
