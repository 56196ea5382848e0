"""What is asked of an adapter's configuration and weights before anything uses them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .errors import AdapterLoadError, NestedAdapterError
from .layers import cross_attention_layers
from .mechanisms import get_mechanism

FORMAT_VERSION = 1
DEFAULT_ALPHA = 2.0
BASE_FAMILY = "sdxl"
_REQUIRED = ("layers", "token_dim", "image_feature_dim")


def family_of(unet: nn.Module) -> str:
    """``"sdxl"`` for UNets with SDXL's text and size embedding, else the class's name."""
    config = getattr(unet, "config", None)
    if not isinstance(config, Mapping):
        return type(unet).__name__
    is_sdxl = config.get("addition_embed_type") == "text_time" and config.get("encoder_hid_dim_type") != "text_proj"
    return BASE_FAMILY if is_sdxl and cross_attention_layers(unet) else type(unet).__name__


def check_config(config: Mapping[str, Any]) -> None:
    """Raise if one of the settings of ``NestedAdapter`` is out of its range.

    Raises:
        NestedAdapterError: Names the setting, its value and what was expected.
    """
    for name, (is_valid, expected) in _SETTINGS.items():
        if name in config and not is_valid(config[name]):
            raise NestedAdapterError(f"{name} must be {expected}, got {config[name]!r}.")
    mechanism, alpha = get_mechanism(config.get("mechanism", "nested")), config.get("alpha", DEFAULT_ALPHA)
    if alpha is not None and not mechanism.has_norm:
        raise NestedAdapterError(
            f"alpha must be None with the mechanism {mechanism.name!r}, which sets no norm, got {alpha!r}."
        )
    width, heads = config.get("qformer_hidden_size", 0), config.get("qformer_num_heads", 1)
    if width % heads:
        raise NestedAdapterError(f"qformer_hidden_size {width} must be a multiple of qformer_num_heads {heads}.")


def check_loaded_config(config: Any, kind: str, source: str) -> None:
    """Raise unless a loaded configuration is a whole one of an adapter that this version reads.

    Args:
        config: What config.json holds.
        kind: The class that it must name.
        source: Where it comes from, for the message.

    Raises:
        AdapterLoadError: Of another class or a newer format, or a setting is missing or out of its range.
    """
    found = config.get("_class_name") if isinstance(config, Mapping) else None
    if found != kind:
        raise AdapterLoadError(
            f"{source} holds a {found or 'configuration of no class'}, not a {kind}. Name a folder or repository whose "
            f"config.json says {kind}."
        )
    version = config.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise AdapterLoadError(
            f"{source} has format_version {version}; this version of diffusers-nested reads up to {FORMAT_VERSION}. "
            "Upgrade diffusers-nested."
        )
    missing = [name for name in _REQUIRED if name not in config]
    if missing:
        raise AdapterLoadError(f"The config.json of {source} has no {', '.join(missing)}. Download it again.")
    try:
        check_config(config)
    except NestedAdapterError as error:
        raise AdapterLoadError(f"The config.json of {source} cannot be used: {error}") from error


def check_weights(adapter: nn.Module, report: Mapping[str, Any], source: str) -> None:
    """Raise unless a file's tensors are those of the adapter, all of them finite.

    Args:
        adapter: The adapter, its weights loaded.
        report: Loading info of diffusers: names of ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys``
            (of these optionally tuples of name, shape in the file, and expected shape).
        source: Where the weights come from, for the message.

    Raises:
        AdapterLoadError: A tensor is missing, left over, of another shape, or not finite.
    """
    never_read = [name for name, parameter in adapter.named_parameters() if parameter.is_meta]
    wrong = [_describe_shapes(entry) for entry in report.get("mismatched_keys", ())]
    for what, names in (
        ("has wrongly shaped", wrong),
        ("misses", {*report["missing_keys"], *never_read}),
        ("has unknown", report["unexpected_keys"]),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
            raise AdapterLoadError(
                f"The weights of {source} do not match its config.json: the file {what} {len(names)} tensors "
                f"({shown}). The files are damaged or of two different adapters; download them again."
            )
    for name, parameter in adapter.named_parameters():
        if not torch.isfinite(parameter).all():
            raise AdapterLoadError(
                f"{source}: the tensor {name}, read as {parameter.dtype}, holds NaN or infinite values. Download it "
                "again."
            )


def first_difference(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str:
    """The first layer in which an adapter and a UNet differ, as a sentence; empty if none does."""
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            return (
                f"First difference: {path} has width {ours.get(path)} in the adapter, {theirs.get(path)} in the UNet."
            )
    return ""


def _describe_shapes(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    name, found, expected = entry
    return f"{name}: {tuple(found)} instead of {tuple(expected)}"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_alpha(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and math.isfinite(value) and value > 0)


def _is_layers(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(path, str) and all(path.split(".")) and _is_size(width) for path, width in value.items())
    )


_SIZE = (_is_size, "a whole number of at least 1")
_SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format_version": (lambda value: _is_size(value) and value <= FORMAT_VERSION, f"1 to {FORMAT_VERSION}"),
    "base_family": (_is_word, "the name of a family of UNets"),
    "layers": (_is_layers, "a dict of layer paths to widths, whole numbers of at least 1"),
    "alpha": (_is_alpha, "a positive number or None"),
    "subject_token": (_is_word, "a word"),
    "image_encoder": (lambda value: value is None or _is_word(value), "a repository id or None"),
    "token_dim": _SIZE,
    "image_feature_dim": _SIZE,
    "num_queries": _SIZE,
    "qformer_hidden_size": _SIZE,
    "qformer_num_layers": _SIZE,
    "qformer_num_heads": _SIZE,
    "qformer_intermediate_size": _SIZE,
}
