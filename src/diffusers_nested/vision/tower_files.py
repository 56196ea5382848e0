"""The files of a vision tower in a folder: checked, then read.

Not by ``from_pretrained`` of transformers, which follows what a folder says: it loads an adapter that lies beside the
model, and a config may name a kernel of the Hub for the attention, or a quantiser. Here a config gives numbers only.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..errors import AdapterLoadError
from ..files import CONFIG_NAME, check_tensors, file_in, read_header, read_index, read_json, shown
from ..files.limits import MAX_ATTENTION, MAX_BLOCKS, MAX_CONFIG_BYTES, MAX_HEADS, MAX_PATCHES, MAX_SIDE, MAX_WIDTH
from ..files.weights import check_finite, read_weights
from .settings import Rule, checked, number, whole

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)+", re.ASCII)
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# those of CLIPs, and what else has no weights of its own
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")


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
    named = raw.get("dtype", raw.get("torch_dtype"))
    known = checked(values, _CONFIG, str(path))
    _check_sizes({**_DEFAULTS, **known}, path)
    return CLIPVisionConfig(**known, dtype=_TYPES.get(named) if isinstance(named, str) else None)


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


def _existing(folder: Path, name: str) -> Path:
    try:
        return file_in(folder, name)
    except FileNotFoundError as error:
        raise AdapterLoadError(f"The image encoder is not whole: {error} Download it again.") from error


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        return [_existing(folder, shard) for shard in read_index(_existing(folder, _INDEX))]
    return [_existing(folder, _WEIGHTS)]


def _check_sizes(config: Mapping[str, int], path: Path) -> None:
    width, heads, side, patch = (config[name] for name in _DEFAULTS)
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


_DEFAULTS = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 224, "patch_size": 32}  # of CLIPVisionConfig
_CONFIG: dict[str, Rule] = {
    "hidden_size": whole(MAX_WIDTH),
    "intermediate_size": whole(MAX_WIDTH),
    "projection_dim": whole(MAX_WIDTH),
    "num_hidden_layers": whole(MAX_BLOCKS),
    "num_attention_heads": whole(MAX_HEADS),
    "num_channels": whole(3, 3),
    "image_size": whole(MAX_SIDE),
    "patch_size": whole(MAX_SIDE),
    "hidden_act": (lambda value: isinstance(value, str) and value in _ACTIVATIONS, f"one of {', '.join(_ACTIVATIONS)}"),
    "layer_norm_eps": number(1e-12, 1e-2),
    "attention_dropout": number(0, 1),
}
