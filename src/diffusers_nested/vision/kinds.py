"""The supported kinds of vision towers, by the ``model_type`` in their configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from ..files.limits import MAX_BLOCKS, MAX_HEADS, MAX_SIDE, MAX_WIDTH
from ..files.rules import Rule, number, one_of, whole

LAST = "last"  # the last layer before pooling, including the class token
PENULTIMATE = "penultimate"  # the layer before it, without the final norm: what IP-Adapter's resampler reads
POOLED = "pooled"  # the projected class token, as a single feature: what IP-Adapter's linear projection reads

# CLIP's own, and others without weights
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")


@dataclass(frozen=True)
class Features:
    """One kind of features that a tower gives.

    Attributes:
        pick: Picks them, (B, L, D), from the model's output with hidden states.
        width: Name of the setting that gives D.
    """

    pick: Callable[[Any], Tensor]
    width: str


@dataclass(frozen=True)
class TowerKind:
    """How towers of one ``model_type`` are loaded and used.

    Attributes:
        config: Class of the configuration.
        model: Class of the model, built from a configuration.
        processor: Class of the image processor; its defaults apply if a tower brings no preprocessing.
        settings: Rules for the settings that are read from config.json; all others are ignored.
        part_of: The ``model_type`` of full models that contain such a tower as their ``vision_config``.
        complete: Fills the model's buffers that are not stored in files.
        features: The features that adapters can read, by name; see ``LAST``, ``PENULTIMATE`` and ``POOLED``.
    """

    config: type[Any]
    model: type[Any]
    processor: type[Any]
    settings: Mapping[str, Rule]
    part_of: str
    complete: Callable[[Any], None]
    features: Mapping[str, Features]


def _number_patches(model: Any) -> None:
    embeddings = model.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))


_CLIP = TowerKind(
    config=CLIPVisionConfig,
    model=CLIPVisionModelWithProjection,
    processor=CLIPImageProcessorPil,
    settings={
        "hidden_size": whole(1, MAX_WIDTH),
        "intermediate_size": whole(1, MAX_WIDTH),
        "projection_dim": whole(1, MAX_WIDTH),
        "num_hidden_layers": whole(1, MAX_BLOCKS),
        "num_attention_heads": whole(1, MAX_HEADS),
        "num_channels": whole(3, 3),
        "image_size": whole(1, MAX_SIDE),
        "patch_size": whole(1, MAX_SIDE),
        "hidden_act": one_of(*_ACTIVATIONS),
        "layer_norm_eps": number(1e-12, 1e-2),
        "attention_dropout": number(0, 1),
    },
    part_of="clip",
    complete=_number_patches,
    features={
        LAST: Features(lambda output: output.last_hidden_state, "hidden_size"),
        PENULTIMATE: Features(lambda output: output.hidden_states[-2], "hidden_size"),
        POOLED: Features(lambda output: output.image_embeds[:, None], "projection_dim"),  # (B, D) -> (B, 1, D)
    },
)

TOWER_KINDS: dict[str, TowerKind] = {"clip_vision_model": _CLIP}
