"""What is asked of an adapter's configuration and weights before anything uses them.

A configuration may come from a stranger, so what it can make us allocate and compute is bounded, by
``files.limits``, before anything is.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import BACKBONES, cross_attention_layers, family_of, layer_widths
from ..errors import AdapterLoadError, NestedAdapterError
from ..files import names_shown, shown
from ..files.limits import (
    MAX_ALPHA,
    MAX_ATTENTION,
    MAX_BLOCKS,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_MAGNITUDE,
    MAX_PARAMETERS,
    MAX_QUERIES,
    MAX_TEXT,
    MAX_WIDTH,
)
from ..mechanisms import get_mechanism

FORMAT_VERSION = 1
DEFAULT_ALPHA = 2.0
_REQUIRED = ("layers", "token_dim", "image_feature_dim")


def check_config(config: Mapping[str, Any]) -> None:
    """Raise if one of the settings of ``NestedAdapter`` is out of its range.

    Raises:
        NestedAdapterError: Names the setting, its value and what was expected.
    """
    for name, (is_valid, expected) in _SETTINGS.items():
        if name in config and not is_valid(config[name]):
            raise NestedAdapterError(f"{name} must be {expected}, got {shown(config[name])}.")
    mechanism, alpha = get_mechanism(config.get("mechanism", "nested")), config.get("alpha", DEFAULT_ALPHA)
    if alpha is not None and not mechanism.has_norm:
        raise NestedAdapterError(
            f"alpha must be None with the mechanism {mechanism.name!r}, which sets no norm, got {alpha!r}."
        )
    width, heads = config.get("qformer_hidden_size", 0), config.get("qformer_num_heads", 1)
    if width % heads:
        raise NestedAdapterError(f"qformer_hidden_size {width} must be a multiple of qformer_num_heads {heads}.")
    _check_attention(heads, config.get("num_queries", 1))
    parameters = estimated_parameters(config) if config.keys() >= _SIZES else 0
    if parameters > MAX_PARAMETERS:
        raise NestedAdapterError(
            f"The configuration asks for about {parameters:.2e} parameters, more than {MAX_PARAMETERS:.0e}. "
            "num_queries, layers, token_dim and the sizes of the Q-Former must be smaller."
        )


def _check_attention(heads: int, queries: int) -> None:
    if heads * queries**2 > MAX_ATTENTION:
        raise NestedAdapterError(
            f"num_queries {queries} with qformer_num_heads {heads} asks for {heads * queries**2:.1e} attention weights "
            f"in each block, heads · num_queries², more than {MAX_ATTENTION:.1e}. One of them must be smaller."
        )


def estimated_parameters(config: Mapping[str, Any]) -> int:
    """About how many parameters an adapter has, without building it: an upper bound that is close for large ones."""
    hidden, inner = config["qformer_hidden_size"], config["qformer_intermediate_size"]
    # in each block: self-attention 4 h², attention to the image 2 h² + 2 h f, two linear layers 2 h i, or twice two
    block = 6 * hidden**2 + 2 * hidden * config["image_feature_dim"] + 4 * hidden * inner + 32 * (hidden + inner)
    tokens = hidden * (config["num_queries"] + config["token_dim"]) + 4 * config["token_dim"]
    projections = 2 * config["token_dim"] * sum(config["layers"].values())
    return config["qformer_num_layers"] * block + tokens + projections


def check_loaded_config(config: Any, kind: str, source: str, settings: Collection[str]) -> None:
    """Raise unless a loaded configuration is a whole one of an adapter that this version reads.

    Args:
        config: What config.json holds.
        kind: The class that it must name.
        source: Where it comes from, for the message.
        settings: Names of the settings that the class knows.

    Raises:
        AdapterLoadError: Of another class or a newer format, or a setting is missing, unknown or out of its range.
    """
    found = config.get("_class_name") if isinstance(config, Mapping) else None
    if found != kind:
        what = "configuration of no class" if found is None else shown(found).strip("'")
        raise AdapterLoadError(
            f"{source} holds a {what}, not a {kind}. Name a folder or repository whose config.json says {kind}."
        )
    version = config.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise AdapterLoadError(
            f"{source} has format_version {shown(version)}; this version of diffusers-nested reads up to "
            f"{FORMAT_VERSION}. Upgrade diffusers-nested."
        )
    missing = [name for name in _REQUIRED if name not in config]
    if missing:
        raise AdapterLoadError(f"The config.json of {source} has no {', '.join(missing)}. Download it again.")
    unknown = [name for name in config if not name.startswith("_") and name not in settings]
    if unknown:
        raise AdapterLoadError(
            f"The config.json of {source} has unknown settings: {names_shown(unknown)}. Known are "
            f"{', '.join(sorted(settings))}. Upgrade diffusers-nested if the adapter is newer."
        )
    try:
        check_config(config)
    except NestedAdapterError as error:
        raise AdapterLoadError(f"The config.json of {source} cannot be used: {error}") from error


def check_config_fits(config: Mapping[str, Any], unet: nn.Module) -> None:
    """Raise unless an adapter of this configuration is made for a UNet like this one; nothing is changed.

    Raises:
        AdapterLoadError: Another family, other layers, or other widths.
    """
    family, ours = family_of(unet), config["layers"]
    if config["base_family"] != family:
        own = BACKBONES.get(config["base_family"])
        raise AdapterLoadError(
            f"The adapter is made for the {config['base_family']!r} family, the UNet is of the {family!r} "
            f"family. Load it into a pipeline of its own family{f', such as {own.text_to_image}' if own else ''}."
        )
    theirs = layer_widths(unet)
    if ours != theirs:
        raise AdapterLoadError(
            f"The adapter is made for another UNet: it has {len(ours)} layers, the UNet {len(theirs)}. "
            f"{first_difference(ours, theirs)} Load the adapter that was trained for this base model."
        )
    widths = {layer.cross_attention_dim for layer in cross_attention_layers(unet).values()}
    if widths != {config["token_dim"]}:
        raise AdapterLoadError(
            f"The adapter is made for prompt embeddings of width {config['token_dim']}, the UNet reads "
            f"{', '.join(map(str, sorted(widths)))}. Load the adapter that was trained for this base model."
        )


def check_projected(projected: Mapping[str, Sequence[Tensor]]) -> None:
    """Raise unless what the layers read of a subject can be computed with; waits for the device once.

    Args:
        projected: Layer path -> K̆ and V̆, or what else the mechanism reads.

    Raises:
        NestedAdapterError: There are NaN, infinite or immense values.
    """
    ends = torch.stack([end.float() for read in projected.values() for x in read for end in torch.aminmax(x)])
    largest = float(ends.abs().max())
    if not largest <= MAX_MAGNITUDE:
        dtype = next(iter(projected.values()))[0].dtype
        raise NestedAdapterError(
            f"What the layers would read of a subject has values up to {largest:g} in {dtype}; finite ones up to "
            f"{MAX_MAGNITUDE:g} are expected. If float16 is too narrow for the adapter, use torch.bfloat16 or "
            "torch.float32; else its weights, or the embeddings that were given, are damaged."
        )


def first_difference(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str:
    """The first layer in which an adapter and a UNet differ, as a sentence; empty if none does."""
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            return (
                f"First difference: {path} has width {ours.get(path)} in the adapter, {theirs.get(path)} in the UNet."
            )
    return ""


def _is_at_most(limit: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit,
        f"a whole number from 1 to {limit}",
    )


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_TEXT and value.isprintable()


def _is_alpha(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and 0 < value <= MAX_ALPHA)


def _is_layers(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and 1 <= len(value) <= MAX_LAYERS
        and all(_is_path(path) and _is_width(width) for path, width in value.items())
        and not any(parent in value for path in value for parent in _parents(path))
    )


def _is_path(value: Any) -> bool:
    """Of a module: no part of it may be an attribute that every module has, such as "training"."""
    is_path = isinstance(value, str) and len(value) <= MAX_TEXT and _PATH.fullmatch(value) is not None
    return is_path and not any(hasattr(_PLAIN_MODULE, part) for part in value.split("."))


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


_PATH = re.compile(r"\w+(\.\w+)*", re.ASCII)
_PLAIN_MODULE = nn.Module()
_SIZE = _is_at_most(MAX_WIDTH)
_is_width = _SIZE[0]
_SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format_version": _is_at_most(FORMAT_VERSION),
    "base_family": (_is_word, "the name of a family of UNets"),
    "layers": (_is_layers, f"a dict of at most {MAX_LAYERS} layer paths to widths, whole numbers up to {MAX_WIDTH}"),
    "alpha": (_is_alpha, f"a positive number up to {MAX_ALPHA:g}, or None"),
    "subject_token": (_is_word, f"a word of at most {MAX_TEXT} characters"),
    "mechanism": (_is_word, "the name of a mechanism"),
    "image_encoder": (lambda value: value is None or _is_word(value), "a repository id or None"),
    "token_dim": _SIZE,
    "image_feature_dim": _SIZE,
    "num_queries": _is_at_most(MAX_QUERIES),
    "qformer_hidden_size": _SIZE,
    "qformer_num_layers": _is_at_most(MAX_BLOCKS),
    "qformer_num_heads": _is_at_most(MAX_HEADS),
    "qformer_intermediate_size": _SIZE,
}
_SIZES = {
    "layers",
    "num_queries",
    "qformer_num_layers",
    *(name for name, rule in _SETTINGS.items() if rule is _SIZE),
}
