"""An adapter with IP-Adapter's encoder and mechanism, as a file of IP-Adapter."""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.adapter.ip_adapter import stored_names
from diffusers_nested.backbones import layer_widths
from diffusers_nested.miniature import path

from ..bundled.adapters import ALPHA, WORDS

WEIGHT_NAME = "ip-adapter-plus_miniature.safetensors"


def export(adapter: NestedAdapter, unet: Any, folder: Path, name: str) -> Path:
    """Write the weights for ``load_ip_adapter``, with the vision tower of people or pets; returns the folder."""
    parts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    weights = adapter.state_dict()
    for own, stored in stored_names(list(weights), layer_widths(unet)).items():
        parts[stored.name][stored.part] = weights[own]
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.cat([of[i] for i in sorted(of)]).half() for key, of in parts.items()}, folder / WEIGHT_NAME)
    _copy_tower(folder, name)
    return folder


def as_nested(ip_folder: Path, unet: Any, name: str) -> NestedAdapter:
    """The weights of such a file as a nested adapter that is not trained, with the norm of the bundled ones."""
    return NestedAdapter.from_ip_adapter(
        ip_folder,
        weight_name=WEIGHT_NAME,
        unet=unet,
        mechanism="nested",
        alpha=ALPHA,
        subject_token=WORDS[name],
        image_encoder=None,
    )


def save_with_tower(adapter: NestedAdapter, folder: Path, name: str) -> Path:
    """Save an adapter for ``load_nested_adapter``, with the vision tower of people or pets; returns the folder."""
    adapter.save_pretrained(folder)
    _copy_tower(folder, name)
    return folder


def _copy_tower(folder: Path, name: str) -> None:
    for part in ("image_encoder", "feature_extractor"):
        shutil.copytree(path(name) / part, folder / part, dirs_exist_ok=True)
