"""Plain vision transformers: classifiers, recognisers of faces, DINO.

Read as ``POOLED``, such a model gives its embedding as a single feature: the class token behind the last norm, which
is what classifiers of transformers read. The pooler that some files have beside it is not loaded.
"""

import re

from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from ..files.limits import MAX_WIDTH
from ..files.rules import FLAG, whole
from ..files.weights import Stored
from .kinds import LAST, PENULTIMATE, POOLED, SIZES, Features, TowerKind

# Names of later versions of transformers -> those in the files
_NAMES = {
    r"^vit\.": "",
    r"^layers\.": "encoder.layer.",
    r"attention\.q_proj": "attention.attention.query",
    r"attention\.k_proj": "attention.attention.key",
    r"attention\.v_proj": "attention.attention.value",
    r"attention\.o_proj": "attention.output.dense",
    r"mlp\.fc1": "intermediate.dense",
    r"mlp\.fc2": "output.dense",
}


def _stored(name: str) -> Stored:
    for theirs, in_files in _NAMES.items():
        name = re.sub(theirs, in_files, name)
    return Stored(name)


VIT = TowerKind(
    config=ViTConfig,
    model=lambda config, names: ViTModel(config, add_pooling_layer=False),
    processor=ViTImageProcessorPil,
    settings={**SIZES, "intermediate_size": whole(1, MAX_WIDTH), "qkv_bias": FLAG},
    features={
        LAST: Features(lambda output, config: output.last_hidden_state),  # the class token and the patches
        PENULTIMATE: Features(lambda output, config: output.hidden_states[-2]),
        POOLED: Features(lambda output, config: output.last_hidden_state[:, :1]),  # the class token
    },
    tokens=lambda config, patches: 1 + patches,
    stored=_stored,
)
