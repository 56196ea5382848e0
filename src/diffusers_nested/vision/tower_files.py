"""The files of a vision tower: checked, then read.

Not by ``from_pretrained`` of transformers, which follows what a folder says: it loads an adapter that lies beside the
model, and a config may name a kernel of the Hub for the attention, or a quantiser. Here a config gives numbers only.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterLoadError
from ..files import read_json, shown
from ..files.limits import MAX_ATTENTION, MAX_CONFIG_BYTES, MAX_PATCHES
from ..files.rules import known_settings
from ..files.weights import Files, load_weights
from .kinds import TOWER_KINDS

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)+", re.ASCII)
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SIZES = ("hidden_size", "num_attention_heads", "image_size", "patch_size")


def check_name(name: str, what: str = "There is no folder here of the name") -> None:
    """Raise unless the name of a tower is a repository's, or a folder's within one.

    Args:
        name: What somebody, or a configuration, calls it.
        what: Begins the message, before the name.

    Raises:
        AdapterLoadError: It is not ``user/repo`` or ``user/repo/sub/folder``.
    """
    if not _NAME.fullmatch(name):
        raise AdapterLoadError(
            f"{what} {shown(name)}, which is not user/repo or user/repo/sub/folder of the Hub. Put the image "
            "encoder into the adapter's folder as image_encoder/, or pass image_encoder_folder=None and give "
            "`nested_adapter_image_embeds`."
        )


def read_tower_config(path: Path) -> Any:
    """The configuration of a vision tower, or of the one in a whole model such as CLIP.

    Args:
        path: Its config.json.

    Raises:
        AdapterLoadError: It is of another model, or a value is out of its range.
    """
    raw = read_json(path, MAX_CONFIG_BYTES)
    model_type, values = _vision_part(raw)
    if model_type not in TOWER_KINDS or not isinstance(values, dict):
        found = raw.get("model_type") if isinstance(raw, dict) else None
        raise AdapterLoadError(
            f"{path} is not the configuration of a vision tower that can be read: its model_type is {shown(found)}, "
            f"expected {' or '.join(map(repr, TOWER_KINDS))}. Use the image encoder that the adapter was trained with."
        )
    if "quantization_config" in raw:
        raise AdapterLoadError(f"{path} asks for quantised weights. Use the tower's own weights.")
    kind = TOWER_KINDS[model_type]
    named = raw.get("dtype", raw.get("torch_dtype"))
    known = known_settings(values, kind.settings, str(path), AdapterLoadError)
    default = kind.config()
    _check_sizes({name: known.get(name, getattr(default, name)) for name in _SIZES}, path)
    return kind.config(**known, dtype=_TYPES.get(named) if isinstance(named, str) else None)


def read_tower(config: Any, files: Files, where: str, torch_dtype: torch.dtype | None = None) -> Any:
    """The tower of a configuration, from its safetensors.

    Args:
        config: See ``read_tower_config``.
        files: See ``files.weights.find_weights``.
        where: Where they come from, for messages.
        torch_dtype: Type of the weights; by default the one that config.json names, else as they are stored.

    Raises:
        AdapterLoadError: A file is damaged or does not fit the configuration, or a weight is not finite.
    """
    kind = TOWER_KINDS[config.model_type]
    with torch.device("meta"):
        model = kind.model(config)
    # a whole model holds its text tower, too, and older files their positions as whole numbers
    load_weights(model, files, where, torch_dtype or config.dtype, allow_others=True)
    kind.complete(model)
    return model


def _vision_part(raw: Any) -> tuple[Any, Any]:
    """The ``model_type`` of a tower and its settings, which are a part of a whole model's."""
    if not isinstance(raw, dict):
        return None, None
    for model_type, kind in TOWER_KINDS.items():
        if raw.get("model_type") == kind.part_of:
            return model_type, raw.get("vision_config")
    named = raw.get("model_type")
    return named if isinstance(named, str) else None, raw


def _check_sizes(config: Mapping[str, int], path: Path) -> None:
    width, heads, side, patch = (config[name] for name in _SIZES)
    patches = (side // patch) ** 2
    problems = {
        f"hidden_size {width} must be a multiple of num_attention_heads {heads}": width % heads,
        f"patch_size {patch} must not be larger than image_size {side}": patch > side,
        f"image_size {side} in patches of {patch} makes {patches} of them, more than {MAX_PATCHES}": (
            patches > MAX_PATCHES
        ),
        f"{patches} patches and num_attention_heads {heads} ask for {heads * (patches + 1) ** 2:.1e} attention weights "
        f"in each block, more than {MAX_ATTENTION:.1e}": heads * (patches + 1) ** 2 > MAX_ATTENTION,
    }
    for problem, is_so in problems.items():
        if is_so:
            raise AdapterLoadError(f"{path}: {problem}. Use the image encoder that the adapter was trained with.")
