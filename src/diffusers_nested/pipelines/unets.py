"""``set_default_attn_processor`` of a UNet with adapters, which diffusers refuses to call beside processors of ours."""

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any

from ..compat import diffusers_classes
from .state import loaded_on


def register_unets() -> None:
    """Give the UNets of the supported pipelines a method that knows our processors; done once, at import."""
    for cls in diffusers_classes("UNet2DConditionModel", "UNetMotionModel"):
        cls.set_default_attn_processor = _beneath(cls.set_default_attn_processor)


def _beneath(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """The method, which decides by what stands beneath our processors and takes these out as it does any other."""

    @wraps(method)
    def set_default_attn_processor(self: Any) -> None:
        state = loaded_on(self)
        if state is None:
            return method(self)
        with state.injector.lifted():
            method(self)
            # copies, as the next call notices processors that are no longer the same objects
            defaults = {name: copy(processor) for name, processor in self.attn_processors.items()}
        # ours are around them again: what the user asked for is to be rid of them, which the next call notices
        self.set_attn_processor(defaults)

    return set_default_attn_processor
