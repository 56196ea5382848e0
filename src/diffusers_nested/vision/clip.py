"""CLIP's vision towers, of any size, with and without the projection into the space of texts."""

from collections.abc import Collection
from typing import Any

from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

from ..files.limits import MAX_WIDTH
from ..files.rules import number, whole
from ..files.weights import Stored
from .kinds import LAST, PENULTIMATE, POOLED, SIZES, Features, TowerKind, number_patches

_PROJECTION = "visual_projection.weight"


def _model(config: Any, names: Collection[str]) -> Any:
    return CLIPVisionModelWithProjection(config) if _PROJECTION in names else CLIPVisionModel(config)


CLIP = TowerKind(
    config=CLIPVisionConfig,
    model=_model,
    processor=CLIPImageProcessorPil,
    settings={
        **SIZES,
        "intermediate_size": whole(1, MAX_WIDTH),
        "projection_dim": whole(1, MAX_WIDTH),
        "attention_dropout": number(0, 1),
    },
    features={
        LAST: Features(lambda output, config: output.last_hidden_state),  # the class token and the patches
        PENULTIMATE: Features(lambda output, config: output.hidden_states[-2]),
        POOLED: Features(
            lambda output, config: output.image_embeds[:, None],  # the projected class token, (B, D) -> (B, 1, D)
            "projection_dim",
            lambda model: hasattr(model, "visual_projection"),
        ),
    },
    tokens=lambda config, patches: 1 + patches,
    part_of="clip",
    stored=lambda name: Stored(name.removeprefix("vision_model.")),
    complete=number_patches,
)
