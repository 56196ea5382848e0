"""The supported vision towers, by the ``model_type`` in their configuration."""

from .clip import CLIP
from .dinov2 import DINOV2, DINOV2_WITH_REGISTERS
from .kinds import TowerKind
from .siglip import SIGLIP
from .vit import VIT

DEFAULT_KIND = "clip_vision_model"
TOWER_KINDS: dict[str, TowerKind] = {
    DEFAULT_KIND: CLIP,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2_WITH_REGISTERS,
    "siglip_vision_model": SIGLIP,
    "vit": VIT,
}
