"""The files of a vision tower in a folder: checked, then read.

Not by ``from_pretrained`` of transformers, which follows what a folder says: it loads an adapter that lies beside the
model, and a config may name a kernel of the Hub for the attention, or a quantiser. Here a config gives numbers only.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.activations import ACT2FN
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..adapter_checks import MAX_BLOCKS, MAX_HEADS, MAX_WIDTH, check_finite
from ..adapter_files import CONFIG_NAME, MAX_CONFIG_BYTES, read_weights
from ..errors import AdapterLoadError
from ..safe_files import check_tensors, file_in, read_header, read_index, read_json, shown

MAX_SIDE = 4096  # pixels of the picture that a tower sees; CLIP: 224 to 448
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)+", re.ASCII)
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_Rule = tuple[Callable[[Any], bool], str]


def check_name(name: str) -> None:
    """Raise unless the name in a configuration is a repository's: a path could lead to any folder of this machine.

    Raises:
        AdapterLoadError: It is not ``user/repo`` or ``user/repo/sub/folder``.
    """
    if not _NAME.fullmatch(name):
        raise AdapterLoadError(
            f"The adapter's config names the image encoder {shown(name)}, which is not user/repo or "
            "user/repo/sub/folder of the Hub. Put the image encoder into the adapter's folder as image_encoder/, or "
            "pass image_encoder_folder=None and give `nested_adapter_image_embeds`."
        )


def read_tower_config(folder: Path) -> CLIPVisionConfig:
    """The configuration of a CLIP vision tower, or of the one in a whole CLIP.

    Raises:
        AdapterLoadError: It is missing, of another model, or a value is out of its range.
    """
    path = _existing(folder, CONFIG_NAME)
    raw = read_json(path, MAX_CONFIG_BYTES)
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    values = raw.get("vision_config") if kind == "clip" else raw
    if kind not in ("clip", "clip_vision_model") or not isinstance(values, dict):
        raise AdapterLoadError(
            f"{path} is not the configuration of a CLIP vision tower: its model_type is {shown(kind)}, expected "
            "'clip_vision_model'. Use the image encoder that the adapter was trained with."
        )
    if "quantization_config" in raw:
        raise AdapterLoadError(f"{path} asks for quantised weights. Use the tower's own weights.")
    checked = _checked(values, _CONFIG, str(path))
    if checked.get("hidden_size", 768) % checked.get("num_attention_heads", 12):
        raise AdapterLoadError(f"{path}: hidden_size must be a multiple of num_attention_heads.")
    if checked.get("patch_size", 32) > checked.get("image_size", 224):
        raise AdapterLoadError(f"{path}: patch_size must not be larger than image_size.")
    named = raw.get("dtype", raw.get("torch_dtype"))
    return CLIPVisionConfig(**checked, dtype=_TYPES.get(named) if isinstance(named, str) else None)


def read_tower(folder: Path, torch_dtype: torch.dtype | None = None) -> CLIPVisionModelWithProjection:
    """The tower in a folder, from its config.json and its safetensors.

    Args:
        folder: Where they are.
        torch_dtype: Type of the weights; by default the one that config.json names, else as they are stored.

    Raises:
        AdapterLoadError: A file is missing or damaged, the two do not fit, or a weight is not finite.
    """
    config = read_tower_config(folder)
    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    files = _weight_files(folder)
    found = {name: (path, tensor) for path in files for name, tensor in read_header(path).items()}
    # a whole CLIP holds its text tower, too, and older files their positions as whole numbers
    check_tensors({name: tensor for name, (_, tensor) in found.items()}, expected, str(folder), allow_others=True)
    wanted = {path: [name for name in expected if found[name][0] == path] for path in files}
    named: Any = config.dtype
    model.load_state_dict(read_weights(wanted, torch_dtype or named), assign=True)
    embeddings: Any = model.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))  # the only one not in files
    check_finite(model, str(folder))
    return model


def read_processor(path: Path) -> CLIPImageProcessorPil:
    """The preprocessing that a preprocessor_config.json describes.

    Raises:
        AdapterLoadError: It cannot be read, or a value is out of its range.
    """
    file_in(path.parent, path.name)
    raw = read_json(path, MAX_CONFIG_BYTES)
    if not isinstance(raw, dict):
        raise AdapterLoadError(f"{path} does not hold settings, but {shown(raw)}. Download it again.")
    return CLIPImageProcessorPil(**_checked(raw, _PROCESSOR, str(path)))


def _existing(folder: Path, name: str) -> Path:
    try:
        return file_in(folder, name)
    except FileNotFoundError as error:
        raise AdapterLoadError(f"The image encoder is not whole: {error} Download it again.") from error


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        return [_existing(folder, shard) for shard in read_index(_existing(folder, _INDEX))]
    return [_existing(folder, _WEIGHTS)]


def _checked(values: Mapping[str, Any], rules: Mapping[str, _Rule], where: str) -> dict[str, Any]:
    """Those of the values that have a rule; others mean nothing to us."""
    known = {name: value for name, value in values.items() if name in rules and value is not None}
    for name, value in known.items():
        is_valid, expected = rules[name]
        if not is_valid(value):
            raise AdapterLoadError(f"{where}: {name} must be {expected}, got {shown(value)}.")
    return known


def _whole(limit: int, least: int = 1) -> _Rule:
    return lambda value: type(value) is int and least <= value <= limit, f"a whole number from {least} to {limit}"


def _number(least: float, most: float) -> _Rule:
    return lambda value: _is_number(value) and least <= value <= most, f"a number from {least:g} to {most:g}"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e6 <= value <= 1e6 and math.isfinite(value)


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, dict) else {"shortest_edge": value}
    are_sides = all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides.values())
    return are_sides and sides.keys() in ({"shortest_edge"}, {"height", "width"})


def _are_three(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


_FLAG = (lambda value: isinstance(value, bool), "true or false")
_SIZE = (_is_size, f"a whole number up to {MAX_SIDE}, or a dict of shortest_edge or of height and width")
_COLOURS = (_are_three, "three numbers")
_CONFIG: dict[str, _Rule] = {
    "hidden_size": _whole(MAX_WIDTH),
    "intermediate_size": _whole(MAX_WIDTH),
    "projection_dim": _whole(MAX_WIDTH),
    "num_hidden_layers": _whole(MAX_BLOCKS),
    "num_attention_heads": _whole(MAX_HEADS),
    "num_channels": _whole(3, 3),
    "image_size": _whole(MAX_SIDE),
    "patch_size": _whole(MAX_SIDE),
    "hidden_act": (lambda value: isinstance(value, str) and value in ACT2FN, "the name of an activation"),
    "layer_norm_eps": _number(0, 1),
    "attention_dropout": _number(0, 1),
}
_PROCESSOR: dict[str, _Rule] = {
    **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), _FLAG),
    **dict.fromkeys(("size", "crop_size"), _SIZE),
    **dict.fromkeys(("image_mean", "image_std"), _COLOURS),
    "rescale_factor": _number(0, 1),
    "resample": _whole(5, 0),
}
