"""IP-Adapter's weight files (arXiv 2308.06721): recognised by the names and shapes of their tensors.

A file holds the encoder under ``image_proj.`` and, for the i-th cross-attention layer in the order of the UNet's
modules, ``ip_adapter.{2i+1}.to_k_ip.weight`` and ``.to_v_ip.weight``.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ..backbones import BACKBONES, backbone_of, layer_widths
from ..errors import AdapterLoadError
from ..files import names_shown
from ..files.headers import TensorInfo
from ..files.weights import Stored
from .ip_encoders import HEAD_WIDTH

OWN_MECHANISM = "decoupled"  # IP-Adapter's own layer
IMPORTED_MECHANISM = "located"
NO_IP_ADAPTER = "are not those of an IP-Adapter for this base model"

Header = Mapping[str, TensorInfo]

_ENCODER, _LAYERS = "image_proj.", "ip_adapter."
_BASE_TOKENS = 4  # of a base IP-Adapter
_QUERIES = "image_proj.layers.0.0.to_q.weight"
_LAYER = re.compile(r"ip_adapter\.(\d{1,4})\.to_([kv])_ip\.weight", re.ASCII)
_REFUSED = {
    "image_proj.proj.3.weight": (
        'a "full face" IP-Adapter, whose 257 tokens are the image\'s patches',
        "Use a base, plus or plus-face IP-Adapter",
    ),
    "image_proj.perceiver_resampler.proj_in.weight": (
        "an IP-Adapter FaceID Plus, which reads a face recogniser's embedding and needs a LoRA",
        "Use a plus-face IP-Adapter, or load this one with diffusers' load_ip_adapter",
    ),
    "image_proj.norm.weight": (
        "an IP-Adapter FaceID, which reads a face recogniser's embedding and needs a LoRA",
        "Use a plus-face IP-Adapter, or load this one with diffusers' load_ip_adapter",
    ),
}
# The resampler's names in diffusers -> in the file, within block i
_IN_BLOCK = {
    "ln0": "0.norm1",
    "ln1": "0.norm2",
    "attn.to_q": "0.to_q",
    "attn.to_out.0": "0.to_out",
    "ff.0": "1.0",
    "ff.1.net.0.proj": "1.1",
    "ff.1.net.2": "1.3",
}
_BLOCK = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")


def is_ip_adapter(header: Header) -> bool:
    """Whether a file of weights is an IP-Adapter's."""
    return any(name.startswith((_ENCODER, _LAYERS)) for name in header)


def read_ip_config(header: Header, source: str, unet: nn.Module | None = None) -> dict[str, Any]:
    """The settings of ``NestedAdapter`` that an IP-Adapter's file implies.

    Args:
        header: The tensors of the file.
        source: Where it comes from, for messages.
        unet: The UNet that it must fit; by default the base model is recognised by its size.

    Raises:
        AdapterLoadError: The kind is not supported, tensors are missing, or it fits another UNet.
    """
    encoder = _encoder_config(header, source)
    widths, token_dim = _layer_shapes(header, source)
    family, layers = _known_layers(widths, token_dim, source) if unet is None else _layers_of(unet, widths, source)
    return {"base_family": family, "layers": layers, "token_dim": token_dim, **encoder}


def stored_names(names: Sequence[str], layers: Mapping[str, int]) -> dict[str, Stored]:
    """Where an IP-Adapter's file has each tensor of a ``NestedAdapter``.

    Args:
        names: The adapter's tensors.
        layers: Its layers, in the order of the UNet's modules.
    """
    numbers = {path: 2 * i + 1 for i, path in enumerate(layers)}
    return {name: _stored(name, numbers) for name in names}


def _stored(name: str, numbers: Mapping[str, int]) -> Stored:
    if name.startswith("projections."):
        path, kind = name.removeprefix("projections.").removesuffix(".weight").rsplit(".", 1)
        return Stored(f"{_LAYERS}{numbers[path]}.to_{kind[0]}_ip.weight")
    name = name.removeprefix("encoder.")
    block = _BLOCK.fullmatch(name)
    if block is None:
        return Stored(_ENCODER + name.replace("image_embeds.", "proj."))
    number, module, kind = block.groups()
    if module in ("attn.to_k", "attn.to_v"):
        return Stored(f"{_ENCODER}layers.{number}.0.to_kv.{kind}", part=int(module == "attn.to_v"), parts=2)
    return Stored(f"{_ENCODER}layers.{number}.{_IN_BLOCK[module]}.{kind}")


def _encoder_config(header: Header, source: str) -> dict[str, Any]:
    if "image_proj.proj.weight" in header:
        _, features = _shape(header, "image_proj.proj.weight", 2, source)
        return {
            "subject_encoder": "image_projection",
            "num_queries": _BASE_TOKENS,
            "image_feature_dim": features,
            "image_encoder": _tower_of(features, {1024: "models", 1280: "sdxl_models"}),
        }
    for name, (what, remedy) in _REFUSED.items():
        if name in header:
            raise AdapterLoadError(f"{source} is {what}: this is not supported. {remedy}.")
    _, queries, hidden = _shape(header, "image_proj.latents", 3, source)
    _, features = _shape(header, "image_proj.proj_in.weight", 2, source)
    inner, _ = _shape(header, _QUERIES, 2, source)
    if inner % HEAD_WIDTH:
        raise AdapterLoadError(
            f"{source} has a resampler of inner width {inner} ({_QUERIES}), expected a multiple of {HEAD_WIDTH}, the "
            "width of an attention head. The file is damaged or of another kind; download it again."
        )
    blocks = {name.split(".")[2] for name in header if name.startswith("image_proj.layers.")}
    return {
        "subject_encoder": "resampler",
        "num_queries": queries,
        "image_feature_dim": features,
        "image_encoder": _tower_of(features, {1280: "models", 1664: "sdxl_models"}),
        "resampler_hidden_size": hidden,
        "resampler_num_layers": len(blocks),
        "resampler_num_heads": inner // HEAD_WIDTH,
    }


def _tower_of(width: int, folders: Mapping[int, str]) -> str | None:
    """The published vision tower of this width, which such files were trained with."""
    return f"h94/IP-Adapter/{folders[width]}/image_encoder" if width in folders else None


def _shape(header: Header, name: str, dimensions: int, source: str) -> tuple[int, ...]:
    found = header.get(name)
    if found is None or len(found.shape) != dimensions:
        what = "lacks the tensor" if found is None else f"has the shape {found.shape} for the tensor"
        raise AdapterLoadError(
            f"{source} {what} {name}, by which the kind of an IP-Adapter is known. Its tensors are "
            f"{names_shown(header)}. Give the file of a base, plus or plus-face IP-Adapter."
        )
    return found.shape


def _layer_shapes(header: Header, source: str) -> tuple[list[int], int]:
    """Inner width of every layer in the order of the UNet's modules, and the width of the tokens."""
    numbers = sorted({int(match.group(1)) for match in map(_LAYER.fullmatch, header) if match})
    expected = list(range(1, max(numbers, default=0) + 1, 2))
    if not numbers or numbers != expected:
        odd = names_shown([f"ip_adapter.{number}" for number in sorted(set(numbers) ^ set(expected))])
        raise AdapterLoadError(
            f"{source} has {len(numbers)} cross-attention layers, expected the numbers 1, 3, 5, … without gaps"
            f"{f'; wrong or missing: {odd}' if numbers else ''}. The file is damaged or of another kind; download it "
            "again."
        )
    shapes = [_shape(header, f"ip_adapter.{number}.to_k_ip.weight", 2, source) for number in numbers]
    return [width for width, _ in shapes], shapes[0][1]


def _known_layers(widths: Sequence[int], token_dim: int, source: str) -> tuple[str, dict[str, int]]:
    for backbone in BACKBONES.values():
        for base in backbone.base_models:
            if list(base.layers.values()) == list(widths) and base.token_dim == token_dim:
                return backbone.name, base.layers
    raise AdapterLoadError(
        f"{source} has {_counted(widths)} and tokens of width {token_dim}, as no known base model has. Load it on a "
        "pipeline of its base model, or give that one's UNet: NestedAdapter.from_ip_adapter(..., unet=pipe.unet)."
    )


def _layers_of(unet: nn.Module, widths: Sequence[int], source: str) -> tuple[str, dict[str, int]]:
    layers = layer_widths(unet)
    if list(layers.values()) != list(widths):
        raise AdapterLoadError(
            f"{source} is made for another UNet: it has {_counted(widths)}, the UNet {_counted(layers.values())}. Load "
            "the IP-Adapter for this base model."
        )
    return backbone_of(unet).name, layers


def _counted(widths: Iterable[int]) -> str:
    """How many layers there are of each width: "70 cross-attention layers (10 of width 640, 60 of width 1280)"."""
    counts = Counter(widths)
    each = ", ".join(f"{count} of width {width}" for width, count in sorted(counts.items()))
    return f"{counts.total()} cross-attention layers ({each})"
