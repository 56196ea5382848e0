"""The files of a vision tower: checked, then read.

transformers' own ``from_pretrained`` trusts the folder: it loads adapters that lie beside the model, and the config may
name an attention kernel on the Hub or a quantizer. This module takes nothing but plain settings from a config.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterLoadError
from ..files import read_header, read_json, shown
from ..files.limits import MAX_ATTENTION, MAX_CONFIG_BYTES, MAX_PATCHES
from ..files.rules import known_settings
from ..files.weights import Files, Stored, load_weights
from .kinds import TowerKind
from .registry import TOWER_KINDS

_OF_ADAPTER = (
    "Put the image encoder into the adapter's folder as image_encoder/, or pass image_encoder_folder=None and give "
    "`nested_adapter_image_embeds`."
)
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)+", re.ASCII)
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SIZES = ("hidden_size", "num_attention_heads", "image_size", "patch_size")


def check_name(name: str, what: str = "There is no folder here of the name", remedy: str = _OF_ADAPTER) -> None:
    """Raise unless a tower's name is a repository id, or a folder within a repository.

    Args:
        name: The name, as a user or a configuration gives it.
        what: The start of the message, before the name.
        remedy: Its end, what to do.

    Raises:
        AdapterLoadError: It is not ``user/repo`` or ``user/repo/sub/folder``.
    """
    if not _NAME.fullmatch(name):
        raise AdapterLoadError(
            f"{what} {shown(name)}, which is not user/repo or user/repo/sub/folder of the Hub. {remedy}"
        )


def read_tower_config(path: Path) -> Any:
    """The configuration of a vision tower, also if it is part of a full model such as CLIP.

    Args:
        path: The config.json.

    Raises:
        AdapterLoadError: It belongs to an unsupported model, or a value is out of range.
    """
    raw = read_json(path, MAX_CONFIG_BYTES)
    model_type, values = _vision_part(raw)
    if model_type not in TOWER_KINDS or not isinstance(values, dict):
        raise _unsupported(raw, path)
    if "quantization_config" in raw:
        raise AdapterLoadError(f"{path} asks for quantised weights, which are not supported. Use the original weights.")
    kind = TOWER_KINDS[model_type]
    named = raw.get("dtype", raw.get("torch_dtype"))
    known = known_settings(values, kind.settings, str(path), AdapterLoadError)
    default = kind.config()
    _check_sizes({name: known.get(name, getattr(default, name)) for name in _SIZES}, path)
    return kind.config(**known, dtype=_TYPES.get(named) if isinstance(named, str) else None)


def read_tower(config: Any, files: Files, where: str, torch_dtype: torch.dtype | None = None) -> Any:
    """Build a tower from its configuration and its safetensors files.

    Args:
        config: The configuration, from ``read_tower_config``.
        files: The files of the weights, from ``find_weights``.
        where: Where they come from, for messages.
        torch_dtype: Type of the weights; by default the one in config.json, else the one they are stored in.

    Raises:
        AdapterLoadError: A file is damaged, does not match the configuration, or contains values that are not finite.
    """
    kind = TOWER_KINDS[config.model_type]
    names = {name for file in files for name in read_header(file)}
    known = {kind.stored(name).name: name for name in names}
    with torch.device("meta"):
        model = kind.model(config, known)
    stored = {name: Stored(name) if name in names else _other(kind, name, known) for name in model.state_dict()}
    # full models contain a text tower or a classifier too, and older files store position_ids
    load_weights(model, files, where, torch_dtype or config.dtype, allow_others=True, stored=stored)
    kind.complete(model)
    return model


def _other(kind: TowerKind, name: str, known: Mapping[str, str]) -> Stored:
    """Where files have a tensor under another name; if nowhere, its own name is the one that the error shows."""
    stored = kind.stored(name)
    return Stored(known[stored.name], stored.part, stored.parts) if stored.name in known else Stored(name)


def _unsupported(raw: Any, path: Path) -> AdapterLoadError:
    found = raw.get("model_type") if isinstance(raw, dict) else None
    what = "the folder of such a tower; for an adapter, of the image encoder that it was trained with"
    if found in ("siglip2", "siglip2_vision_model"):
        what = "a SigLIP2 with a fixed size of pictures, which is of the model_type 'siglip'"
    return AdapterLoadError(
        f"{path} does not configure a supported vision tower: its model_type is {shown(found)}, expected "
        f"{' or '.join(map(repr, TOWER_KINDS))}. Use {what}."
    )


def _vision_part(raw: Any) -> tuple[Any, Any]:
    """The ``model_type`` and settings of the tower, taken from a full model's configuration if it is one."""
    if not isinstance(raw, dict):
        return None, None
    for model_type, kind in TOWER_KINDS.items():
        if kind.part_of is not None and raw.get("model_type") == kind.part_of:
            return model_type, raw.get("vision_config")
    named = raw.get("model_type")
    return named if isinstance(named, str) else None, raw


def _check_sizes(config: Mapping[str, int], path: Path) -> None:
    width, heads, side, patch = (config[name] for name in _SIZES)
    patches = (side // patch) ** 2
    problems = {
        f"hidden_size {width} must be a multiple of num_attention_heads {heads}": width % heads,
        f"patch_size {patch} must not be larger than image_size {side}": patch > side,
        f"image_size {side} in patches of {patch} gives {patches} patches, more than {MAX_PATCHES}": (
            patches > MAX_PATCHES
        ),
        f"{patches} patches and num_attention_heads {heads} need {heads * (patches + 1) ** 2:.1e} attention weights "
        f"in each block, more than {MAX_ATTENTION:.1e}": heads * (patches + 1) ** 2 > MAX_ATTENTION,
    }
    for problem, is_so in problems.items():
        if is_so:
            raise AdapterLoadError(f"{path}: {problem}. Use the image encoder that the adapter was trained with.")
