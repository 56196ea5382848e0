"""SigLIP's vision towers, and those of SigLIP2 with a fixed size of pictures, which are models of the same class.

SigLIP2 of variable size ("naflex", of the ``model_type`` "siglip2") reads a list of patches in place of a picture.
"""

from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from ..files.limits import MAX_WIDTH
from ..files.rules import FLAG, number, whole
from ..files.weights import Stored
from .kinds import LAST, PENULTIMATE, POOLED, SIZES, Features, TowerKind, number_patches

SIGLIP = TowerKind(
    config=SiglipVisionConfig,
    model=lambda config, names: SiglipVisionModel(config),
    processor=SiglipImageProcessorPil,
    settings={
        **SIZES,
        "intermediate_size": whole(1, MAX_WIDTH),
        "attention_dropout": number(0, 1),
        "vision_use_head": FLAG,
    },
    features={
        LAST: Features(lambda output, config: output.last_hidden_state),  # the patches; there is no class token
        PENULTIMATE: Features(lambda output, config: output.hidden_states[-2]),
        POOLED: Features(
            lambda output, config: output.pooler_output[:, None],  # of the attention pooling, (B, D) -> (B, 1, D)
            is_given=lambda model: getattr(model.config, "vision_use_head", True),  # unknown to transformers 5.4
        ),
    },
    tokens=lambda config, patches: patches,
    part_of="siglip",
    stored=lambda name: Stored(name.removeprefix("vision_model.")),
    complete=number_patches,
)
