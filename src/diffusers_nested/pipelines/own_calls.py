"""Calls of pipeline classes that people derive from those of diffusers, whose own ``__call__`` comes first.

An own call may name the nested keywords, for example to prepare the photos, or pass on whatever it is given: then it
gets them, and hands them on. One that names the prompt, but not them, never sees them. Any may fill them in itself.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import SubjectError
from ..injection import current_call
from .keywords import KEYWORDS, check_keywords
from .nested_call import NestedCall, plainly
from .prompt_words import named_arguments
from .watching import watched

_of_diffusers: set[Callable[..., Any]] = set()


@dataclass
class _Handed:
    """Keywords that were handed to a class's own call, and whether they have come on to diffusers' call."""

    pipeline: Any
    has_come: bool = False


_handed: ContextVar[_Handed | None] = ContextVar("diffusers_nested_handed", default=None)


def is_of_diffusers(call: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of the calls that end in ``call_from_within``, those of diffusers' classes."""
    _of_diffusers.add(call)
    return call


def takes_keywords(cls: type, mixin: type) -> bool:
    """Whether a class derived from one of diffusers has an own call for nested keywords.

    That is one that names them, or any that names no prompt and so only passes on what it is given.
    """
    for one in cls.__mro__:
        call = vars(one).get("__call__")
        if call in _of_diffusers:
            return False
        if call is not None and not issubclass(one, mixin) and _is_for_keywords(one.__call__):
            return True
    return False


def _is_for_keywords(call: Callable[..., Any]) -> bool:
    parameters = inspect.signature(call).parameters
    passes_on = any([one.kind is one.VAR_KEYWORD for one in parameters.values()]) and "prompt" not in parameters
    return passes_on or any([name in parameters for name in KEYWORDS])


def call_with_subjects(
    pipeline: Any, nested: Mapping[str, Any], own: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """A pipeline's call, with the values of the nested keywords; without any, a plain one."""
    token = _handed.set(None)  # a callback's calls are none that an own call has handed anything to
    try:
        if all(value is None for value in nested.values()):
            with plainly(pipeline):
                return watched(pipeline, None, lambda: own(*args, **kwargs))
        call = NestedCall(pipeline, nested, named_arguments(own, args, kwargs))
        with call.active():
            return watched(pipeline, call, lambda: own(*args, **kwargs))
    finally:
        _handed.reset(token)


def call_handing_on(pipeline: Any, own: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A call of a class whose own call takes nested keywords and must hand them on.

    Raises:
        SubjectError: It did not.
    """
    handed = _Handed(pipeline)
    token = _handed.set(handed)
    try:
        output = own(*args, **kwargs)
    finally:
        _handed.reset(token)
    if not handed.has_come:
        raise SubjectError(
            f"{type(pipeline).__name__}.__call__ takes nested keywords, but did not hand them on, so no subject could "
            f"act. Hand them on, super().__call__(..., {KEYWORDS[0]}=...), or leave them out of its signature."
        )
    return output


def call_from_within(pipeline: Any, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What reaches the call of diffusers' class, of a pipeline with adapters: from the mixin, or from an own call.

    Raises:
        SubjectError: An own call hands a keyword on that it does not name, while what was given acts already.
    """
    check_keywords(pipeline, kwargs)
    given = [name for name in KEYWORDS if name in kwargs]
    nested = {name: kwargs.pop(name, None) for name in KEYWORDS}
    own, handed = partial(call, pipeline), _handed.get()
    if handed is not None and handed.pipeline is pipeline:
        handed.has_come |= bool(given)
        return call_with_subjects(pipeline, nested, own, args, kwargs)
    if all(value is None for value in nested.values()):
        return own(*args, **kwargs)
    around = current_call()
    if around is not None and around.pipeline is pipeline:
        raise SubjectError(
            f"{type(pipeline).__name__}.__call__ hands {given[0]} on, but what was given to it acts already, as its "
            f"signature does not name it. Name it there: def __call__(self, ..., {given[0]}=None, ...)."
        )
    return call_with_subjects(pipeline, nested, own, args, kwargs)
