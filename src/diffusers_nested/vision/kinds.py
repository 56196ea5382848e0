"""What a family of vision towers has to say of itself, and the kinds of features that adapters read."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..files.limits import MAX_BLOCKS, MAX_HEADS, MAX_SIDE, MAX_WIDTH
from ..files.rules import Rule, number, one_of, whole
from ..files.weights import Stored

LAST = "last"  # the last layer before pooling, including the class token
PENULTIMATE = "penultimate"  # the layer before it, without the final norm: what IP-Adapter's resampler reads
POOLED = "pooled"  # the whole picture as a single feature: what IP-Adapter's linear projection reads
FEATURES = (LAST, PENULTIMATE, POOLED)

# CLIP's own, and others without weights
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")

# Settings that all families have
SIZES: Mapping[str, Rule] = {
    "hidden_size": whole(1, MAX_WIDTH),
    "num_hidden_layers": whole(1, MAX_BLOCKS),
    "num_attention_heads": whole(1, MAX_HEADS),
    "num_channels": whole(3, 3),
    "image_size": whole(1, MAX_SIDE),
    "patch_size": whole(1, MAX_SIDE),
    "hidden_act": one_of(*_ACTIVATIONS),
    "layer_norm_eps": number(1e-12, 1e-2),
}


@dataclass(frozen=True)
class Features:
    """One kind of features that a tower gives.

    Attributes:
        pick: Picks them, (B, L, D), from the model's output with hidden states and its configuration.
        width: Name of the setting that gives D.
        is_given: Whether a model gives them; some files lack the part that does.
    """

    pick: Callable[[Any, Any], Tensor]
    width: str = "hidden_size"
    is_given: Callable[[Any], bool] = lambda model: True


@dataclass(frozen=True)
class TowerKind:
    """How towers of one ``model_type`` are loaded and used.

    Attributes:
        config: Class of the configuration.
        model: Builds the model from a configuration and the names of the tensors in the files, as ``stored`` has them.
        processor: Class of the image processor; its defaults apply if a tower brings no preprocessing.
        settings: Rules for the settings that are read from config.json; all others are ignored.
        features: The features that adapters can read, by name; see ``LAST``, ``PENULTIMATE`` and ``POOLED``.
        tokens: L of the features that are not pooled, from the configuration and the number of patches.
        part_of: The ``model_type`` of full models that contain such a tower as their ``vision_config``.
        stored: Where files have a tensor of the model. Names differ between versions of transformers, so those of the
            files go through it, too: two names mean the same tensor if it gives the same for both.
        complete: Fills the model's buffers that are not stored in files.
        preprocessing: Settings for a tower that brings none, where they differ from the defaults of the processor.
        any_size: Whether the model takes pictures of other sizes than its ``image_size``.
    """

    config: type[Any]
    model: Callable[[Any, Collection[str]], Any]
    processor: type[Any]
    settings: Mapping[str, Rule]
    features: Mapping[str, Features]
    tokens: Callable[[Any, int], int]
    part_of: str | None = None
    stored: Callable[[str], Stored] = Stored
    complete: Callable[[Any], None] = lambda model: None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    any_size: bool = False


def number_patches(model: Any) -> None:
    """Fill ``position_ids``, which models of CLIP's family keep as a buffer."""
    for part in model.modules():
        if hasattr(part, "position_ids"):
            part.position_ids = torch.arange(part.num_positions).expand((1, -1))
