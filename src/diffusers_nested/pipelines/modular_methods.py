"""The methods of modular pipelines, which keep their class and their call: blocks take the nested keywords."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..errors import NestedAdapterError
from ..injection.swap import swap_back
from .keywords import KEYWORDS, check_keywords
from .mixin import NestedAdapterMixin
from .nested_call import plainly


def register_modular(cls: Any) -> None:
    """Set the methods of a modular pipeline's class that differ from the mixin's; runs once, at import."""
    cls.load_nested_adapter = _load_in_place
    cls.__call__ = _checked(cls.__call__)


@wraps(NestedAdapterMixin.load_nested_adapter)
def _load_in_place(self: Any, *args: Any, **kwargs: Any) -> None:
    """Load as in every pipeline, but keep the pipeline's class: its blocks take the keywords."""
    NestedAdapterMixin.load_nested_adapter(self, *args, **kwargs)
    swap_back(self)


def _checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the class's call: raise if no block takes a nested keyword, where diffusers would only warn."""

    @wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_keywords(self, kwargs, known=self.default_call_parameters)
        given = [name for name in KEYWORDS if kwargs.get(name) is not None]
        if given and given[0] not in self.default_call_parameters:
            raise NestedAdapterError(
                f"None of the pipeline's blocks takes {given[0]}. Build the pipeline from blocks that do: "
                "add_nested_subjects(pipe.blocks).init_pipeline(...)."
            )
        with plainly(self):  # until a block that takes the keywords runs
            return call(self, *args, **kwargs)

    return __call__
