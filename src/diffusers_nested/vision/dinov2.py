"""DINOv2's vision towers, also with registers.

Adapters read the class token and the patches. Registers are left out, as in the heads that transformers puts on these
models: they stand for no place of the picture.
"""

import re
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..files.rules import FLAG, number, whole
from ..files.weights import Stored
from .kinds import LAST, PENULTIMATE, POOLED, SIZES, Features, TowerKind

_PREFIX = re.compile(r"^(dinov2|dinov2_with_registers)\.")
# Names of later versions of transformers -> those in the files
_NAMES = {
    r"attention\.q_proj": "attention.attention.query",
    r"attention\.k_proj": "attention.attention.key",
    r"attention\.v_proj": "attention.attention.value",
    r"attention\.o_proj": "attention.output.dense",
    r"mlp\.down_proj": "mlp.weights_out",
}
_HALVES = re.compile(r"mlp\.(gate|up)_proj")  # of one matrix in the files


def _stored(name: str) -> Stored:
    name = _PREFIX.sub("", name)
    for theirs, in_files in _NAMES.items():
        name = re.sub(theirs, in_files, name)
    half = _HALVES.search(name)
    if half is None:
        return Stored(name)
    return Stored(_HALVES.sub("mlp.weights_in", name), ("gate", "up").index(half[1]), 2)


def _places(states: Tensor, config: Any) -> Tensor:
    """All states but the registers, (B, 1 + R + P, D) -> (B, 1 + P, D)."""
    registers = getattr(config, "num_register_tokens", 0)
    return torch.cat([states[:, :1], states[:, 1 + registers :]], dim=1) if registers else states


DINOV2 = TowerKind(
    config=Dinov2Config,
    model=lambda config, names: Dinov2Model(config),
    processor=BitImageProcessorPil,
    settings={
        **SIZES,
        "mlp_ratio": whole(1, 64),
        "qkv_bias": FLAG,
        "use_swiglu_ffn": FLAG,
        "use_mask_token": FLAG,
        "layerscale_value": number(-1000, 1000),
    },
    features={
        LAST: Features(lambda output, config: _places(output.last_hidden_state, config)),
        PENULTIMATE: Features(lambda output, config: _places(output.hidden_states[-2], config)),
        POOLED: Features(lambda output, config: output.pooler_output[:, None]),  # the class token, (B, D) -> (B, 1, D)
    },
    tokens=lambda config, patches: 1 + patches,
    stored=_stored,
    preprocessing={
        "size": {"shortest_edge": 256},
        "image_mean": IMAGENET_DEFAULT_MEAN,
        "image_std": IMAGENET_DEFAULT_STD,
    },
    any_size=True,  # published ones are made for 518 pixels and used at 224
)

DINOV2_WITH_REGISTERS = TowerKind(
    config=Dinov2WithRegistersConfig,
    model=lambda config, names: Dinov2WithRegistersModel(config),
    processor=DINOV2.processor,
    settings={
        **{name: rule for name, rule in DINOV2.settings.items() if name != "use_mask_token"},
        "num_register_tokens": whole(0, 64),
    },
    features=DINOV2.features,
    tokens=DINOV2.tokens,
    stored=_stored,
    preprocessing=DINOV2.preprocessing,
    any_size=True,
)
