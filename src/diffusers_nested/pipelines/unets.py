"""``set_default_attn_processor`` of a UNet with adapters: diffusers refuses it next to our processors."""

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any

from ..compat import diffusers_classes
from .state import loaded_on


def register_unets() -> None:
    """Make the method of the supported UNets accept our processors; runs once, at import."""
    for cls in diffusers_classes("UNet2DConditionModel", "UNetMotionModel"):
        cls.set_default_attn_processor = _beneath(cls.set_default_attn_processor)


def _beneath(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap the method: it looks at the processors beneath ours, and removes ours like any other."""

    @wraps(method)
    def set_default_attn_processor(self: Any) -> None:
        state = loaded_on(self)
        if state is None:
            return method(self)
        with state.injector.lifted():
            method(self)
            # copies, as the next call notices processors that are no longer the same objects
            defaults = {name: copy(processor) for name, processor in self.attn_processors.items()}
        # ours are back around them, but the user asked for the defaults; the next call notices that ours are gone
        self.set_attn_processor(defaults)

    return set_default_attn_processor
