"""The kinds of vision towers that can be read, by the ``model_type`` of their configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from ..files.limits import MAX_BLOCKS, MAX_HEADS, MAX_SIDE, MAX_WIDTH
from ..files.rules import Rule, number, one_of, whole

# those of CLIPs, and what else has no weights of its own
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")


@dataclass(frozen=True)
class TowerKind:
    """How towers of one ``model_type`` are read.

    Attributes:
        config: Class of the configuration.
        model: Class of the model; made of a configuration alone.
        processor: Class of the preprocessing; its defaults are those of the kind.
        settings: The rule of every setting of the configuration that is read; others mean nothing.
        part_of: The ``model_type`` of whole models whose ``vision_config`` is such a configuration.
        complete: Gives a model its buffers that no file holds.
        features: The features in the model's output, (B, L, D).
    """

    config: type[Any]
    model: type[Any]
    processor: type[Any]
    settings: Mapping[str, Rule]
    part_of: str
    complete: Callable[[Any], None]
    features: Callable[[Any], Tensor]


def last_hidden_state(output: Any) -> Tensor:
    """Features of the last layer before pooling, class token included."""
    return output.last_hidden_state


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
    features=last_hidden_state,
)

TOWER_KINDS: dict[str, TowerKind] = {"clip_vision_model": _CLIP}
