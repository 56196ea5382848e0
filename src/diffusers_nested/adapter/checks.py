"""Checks of an adapter's configuration, of its fit to a UNet, and of what it computes.

A configuration may come from a stranger, so ``files.limits`` bounds how much it can make us allocate and compute.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import BACKBONES, cross_attention_layers, family_of
from ..errors import AdapterLoadError, NestedAdapterError
from ..files.limits import (
    MAX_ALPHA,
    MAX_LAYERS,
    MAX_MAGNITUDE,
    MAX_PARAMETERS,
    MAX_QUERIES,
    MAX_TEXT,
    MAX_WIDTH,
)
from ..files.rules import Rule, check_settings, number, one_of, whole, word
from ..mechanisms import MECHANISMS, Mechanism, get_mechanism
from ..vision.several import each_of
from .subject_encoders import DEFAULT_ENCODER, SUBJECT_ENCODERS, SubjectEncoder
from .towers import RULES, check_towers

FORMAT_VERSION = 1
DEFAULT_ALPHA = 2.0
DEFAULT_WORD = "person"
ALIGNED_FACE = "aligned_face"


def check_config(config: Mapping[str, Any]) -> None:
    """Raise if a setting of ``NestedAdapter`` is out of range.

    Args:
        config: All settings; only ``subject_encoder`` may be missing, which means the default.

    Raises:
        NestedAdapterError: Names the setting, its value and what was expected.
    """
    check_settings(config, _SETTINGS)
    check_settings(config, encoder_of(config).settings)
    check_towers(config)
    _check_reads(config)
    mechanism, alpha = get_mechanism(config["mechanism"]), config["alpha"]
    if alpha is not None and not mechanism.has_norm:
        raise NestedAdapterError(
            f"alpha must be None with the mechanism {mechanism.name!r}, which sets no norm, got {alpha!r}."
        )
    _check_rank(config, mechanism)
    encoder_of(config).check_config(config)
    parameters = estimated_parameters(config)
    if parameters > MAX_PARAMETERS:
        raise NestedAdapterError(
            f"The configuration asks for about {parameters:.2e} parameters, more than {MAX_PARAMETERS:.0e}. "
            "Reduce num_queries, layers, token_dim or the sizes of the subject encoder."
        )


def _check_reads(config: Mapping[str, Any]) -> None:
    """Raise if IP-Adapter's encoders should read other features than their own, or several towers."""
    kind, several = config.get("subject_encoder", DEFAULT_ENCODER), isinstance(config["image_feature_dim"], list)
    if kind != DEFAULT_ENCODER and (several or config.get("image_features") is not None):
        what = "several vision towers" if several else f"image_features={config['image_features']!r}"
        raise NestedAdapterError(
            f"The subject encoder {kind!r} cannot read {what}: it reads the features of one vision tower that "
            f"IP-Adapter reads. Leave them out, or use {DEFAULT_ENCODER!r}."
        )


def features_of(config: Mapping[str, Any]) -> str | tuple[str, ...]:
    """Which features of its vision tower an adapter reads, or of each of several; see ``ImageEncoder``."""
    own = encoder_of(config).features
    several, chosen = isinstance(config["image_feature_dim"], list), config.get("image_features") or own
    if not several:
        return chosen
    return tuple(one or own for one in each_of(chosen, len(config["image_feature_dim"])))


def _check_rank(config: Mapping[str, Any], mechanism: Mechanism) -> None:
    """Raise if the projections cannot have this rank."""
    rank = config.get("projection_rank")
    if rank is None:
        return
    if mechanism.projection is None:
        raise NestedAdapterError(
            f"projection_rank must be None with the mechanism {mechanism.name!r}, which has no projections, got {rank}."
        )
    most = min(config["token_dim"], *config["layers"].values())
    if rank > most:
        raise NestedAdapterError(
            f"projection_rank must be at most {most}, the smallest width of the tokens and the layers, got {rank}."
        )


def check_subject_encoder(name: Any) -> None:
    """Raise unless there is a subject encoder of this name.

    Raises:
        NestedAdapterError: Names those that there are.
    """
    one_of(*SUBJECT_ENCODERS).check("subject_encoder", name)


def check_subject_token(word: Any) -> str:
    """Raise unless this may be a subject's word.

    Raises:
        NestedAdapterError: Shows what it is.
    """
    _SETTINGS["subject_token"].check("subject_token", word)
    return word


def acting_mechanism(config: Mapping[str, Any], name: str | None) -> tuple[Mechanism, float | None]:
    """How an adapter's subjects enter a layer, and α: its own mechanism, or another one that reads the same.

    Args:
        config: The adapter's settings.
        name: The other mechanism; None for its own.

    Raises:
        NestedAdapterError: There is no such mechanism, or it reads other projections.
    """
    own = get_mechanism(config["mechanism"])
    if name is None or name == own.name:
        return own, config["alpha"]
    wanted = get_mechanism(name)
    if wanted.projection is not own.projection:
        fitting = ", ".join(sorted(one.name for one in MECHANISMS.values() if one.projection is own.projection))
        raise NestedAdapterError(
            f"mechanism is {name!r}, but the adapter was trained as {own.name!r}, which has other projections. It can "
            f"act as {fitting}."
        )
    return wanted, (config["alpha"] or DEFAULT_ALPHA) if wanted.has_norm else None


def estimated_parameters(config: Mapping[str, Any]) -> int:
    """Estimate an adapter's parameters without building it: an upper bound that is close for large dense adapters.

    Projections of a rank count as dense ones, which they become when the adapter is loaded.
    """
    projections = 2 * config["token_dim"] * sum(config["layers"].values())
    return encoder_of(config).estimated_parameters(config) + projections


def encoder_of(config: Mapping[str, Any]) -> type[SubjectEncoder]:
    """The class of an adapter's subject encoder."""
    return SUBJECT_ENCODERS[config.get("subject_encoder", DEFAULT_ENCODER)]


def check_config_fits(config: Mapping[str, Any], unet: nn.Module) -> None:
    """Raise unless an adapter of this configuration fits a UNet; nothing is changed.

    Raises:
        AdapterLoadError: The family, the layers or their widths differ.
    """
    family, ours = family_of(unet), config["layers"]
    if config["base_family"] != family:
        own = BACKBONES.get(config["base_family"])
        raise AdapterLoadError(
            f"The adapter is made for the {config['base_family']!r} family, but the UNet is of the {family!r} "
            f"family. Load it into a pipeline of its own family{f', such as {own.text_to_image}' if own else ''}."
        )
    layers = cross_attention_layers(unet)
    theirs = {path: layer.inner_dim for path, layer in layers.items()}
    if ours != theirs:
        raise AdapterLoadError(
            f"The adapter is made for another UNet: it has {len(ours)} layers, the UNet {len(theirs)}. "
            f"{first_difference(ours, theirs)} Load the adapter that was trained for this base model."
        )
    widths = {layer.cross_attention_dim for layer in layers.values()}
    if widths != {config["token_dim"]}:
        raise AdapterLoadError(
            f"The adapter is made for prompt embeddings of width {config['token_dim']}, but the UNet reads "
            f"{', '.join(map(str, sorted(widths)))}. Load the adapter that was trained for this base model."
        )


def extremes(read: Sequence[Tensor]) -> Tensor:
    """The smallest and the largest value of each tensor, (2 · tensors,), for ``check_extremes``."""
    return torch.stack([end.float() for x in read for end in torch.aminmax(x)])


def check_extremes(extremes: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Raise unless a subject's keys and values are finite and of moderate size; synchronizes with the device once.

    Args:
        extremes: Of what the mechanism reads in each layer, such as K̆ and V̆.
        dtype: The type in which they were read.

    Raises:
        NestedAdapterError: There are NaN, infinite or very large values.
    """
    largest = float(torch.stack(list(extremes)).abs().max())
    if not largest <= MAX_MAGNITUDE:
        raise NestedAdapterError(
            f"What the layers would read of a subject has values up to {largest:g} in {dtype}; finite ones up to "
            f"{MAX_MAGNITUDE:g} are expected. If float16 is too narrow for the adapter, use torch.bfloat16 or "
            "torch.float32; otherwise its weights or the given embeddings are damaged."
        )


def first_difference(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str:
    """A sentence about the first layer in which adapter and UNet differ; empty if there is none."""
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            return (
                f"First difference: {path} has width {ours.get(path)} in the adapter, {theirs.get(path)} in the UNet."
            )
    return ""


def _is_layers(value: Any) -> bool:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_LAYERS or not all(map(_is_path, value)):
        return False
    widths = value.values()
    if set(map(type, widths)) != {int} or min(widths) < 1 or max(widths) > MAX_WIDTH:
        return False
    return value.keys().isdisjoint(parent for path in value for parent in _parents(path))


def _is_path(value: Any) -> bool:
    """Whether this can be a module's path: no part may be an attribute of every module, such as "training"."""
    is_path = isinstance(value, str) and len(value) <= MAX_TEXT and _PATH.fullmatch(value) is not None
    return is_path and _EVERY_MODULE_HAS.isdisjoint(value.split("."))


def _parents(path: str) -> list[str]:
    """The enclosing modules: ``a`` and ``a.b`` for ``a.b.c``."""
    return list(accumulate(path.split(".")[:-1], "{}.{}".format))


_PATH = re.compile(r"\w+(\.\w+)*", re.ASCII)
_EVERY_MODULE_HAS = frozenset(dir(nn.Module()))
_SIZE = whole(1, MAX_WIDTH)
_SETTINGS: dict[str, Rule] = {
    "format_version": whole(1, FORMAT_VERSION),
    "base_family": word(MAX_TEXT, "the name of a family of UNets"),
    "layers": Rule(
        _is_layers, f"a dict of at most {MAX_LAYERS} layer paths to widths, whole numbers up to {MAX_WIDTH}"
    ),
    "alpha": number(0, MAX_ALPHA, above=True).or_none(),
    "subject_token": word(MAX_TEXT),
    "mechanism": word(MAX_TEXT, "the name of a mechanism"),
    "token_dim": _SIZE,
    **RULES,
    "num_queries": whole(1, MAX_QUERIES),
    "projection_rank": _SIZE.or_none(),
    "image_preparation": one_of(ALIGNED_FACE).or_none(),
}
