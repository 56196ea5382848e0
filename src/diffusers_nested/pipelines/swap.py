"""A loaded pipeline's class: the mixin in front of the pipeline's own, under the same name."""

from functools import cache
from typing import Any


def swap_in(pipeline: Any, mixin: type) -> None:
    """Give the pipeline the mixin's call; its class keeps its name, which diffusers reads at several places."""
    cls = type(pipeline)
    if not issubclass(cls, mixin):
        pipeline.__class__ = _mixed(cls, mixin)


def swap_back(pipeline: Any) -> None:
    """Give the pipeline its original class back."""
    original = type(pipeline).__dict__.get("_nested_original")
    if original is not None:
        pipeline.__class__ = original


@cache
def _mixed(cls: type, mixin: type) -> type:
    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        # the class cannot be found by its name, which is that of the original
        return _rebuild, (cls, mixin), self.__dict__

    body = {"__module__": cls.__module__, "__doc__": cls.__doc__, "__reduce_ex__": __reduce_ex__}
    return type(cls.__name__, (mixin, cls), body | {"_nested_original": cls})


def _rebuild(cls: type, mixin: type) -> Any:
    return object.__new__(_mixed(cls, mixin))
