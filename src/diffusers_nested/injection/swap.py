"""Gives an object a subclass of its class with a mixin in front, and its own class back."""

from functools import cache
from typing import Any


def swap_in(target: Any, mixin: type) -> None:
    """Put a mixin in front of an object's class, which keeps its name: diffusers reads it in several places."""
    cls = type(target)
    if not issubclass(cls, mixin):
        target.__class__ = _mixed(cls, mixin)


def swap_back(target: Any) -> None:
    """Give an object its original class back."""
    original = type(target).__dict__.get("_nested_original")
    if original is not None:
        target.__class__ = original


@cache
def _mixed(cls: type, mixin: type) -> type:
    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        # pickle would find the original class under this name; what its state leaves out stays out
        return _rebuild, (cls, mixin), *object.__reduce_ex__(self, max(protocol, 2))[2:]

    body = {"__module__": cls.__module__, "__doc__": cls.__doc__, "__reduce_ex__": __reduce_ex__}
    return type(cls.__name__, (mixin, cls), body | {"_nested_original": cls})


def _rebuild(cls: type, mixin: type) -> Any:
    return object.__new__(_mixed(cls, mixin))
