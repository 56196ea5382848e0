"""Lets others watch the calls of pipelines: which begin, what their prompts become, and what they give."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol

from .prompt_words import named_arguments


class Watcher(Protocol):
    """Watches the calls of the context (PEP 567) in which it was added."""

    def watch(self, pipeline: Any, subjects: Any) -> AbstractContextManager[Callable[[Any], None]]:
        """Open around a call; what it gives is called with the call's output, unless the call raises.

        Args:
            pipeline: The pipeline that is called.
            subjects: The ``NestedCall``; None if the call has no subjects.
        """
        ...

    def encoded(self, pipeline: Any, arguments: Mapping[str, Any], encoded: Any) -> None:
        """Prompts were encoded during a call, perhaps told twice.

        Args:
            pipeline: The pipeline that encoded them.
            arguments: The arguments of ``encode_prompt``, by name.
            encoded: What it returned.
        """
        ...


_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("diffusers_nested_watchers", default=())


def add_watcher(watcher: Watcher) -> None:
    """Let it watch all calls of this context from now on."""
    _watchers.set((*_watchers.get(), watcher))


def remove_watcher(watcher: Watcher) -> None:
    """Let it watch no more; nothing happens if it does not."""
    _watchers.set(tuple([one for one in _watchers.get() if one is not watcher]))


def watched(pipeline: Any, subjects: Any, call: Callable[[], Any]) -> Any:
    """Run a pipeline's call; see ``Watcher.watch``."""
    with ExitStack() as stack:
        told = [stack.enter_context(one.watch(pipeline, subjects)) for one in _watchers.get()]
        output = call()
        for tell in told:
            tell(output)
        return output


def tell_encoded(pipeline: Any, arguments: Mapping[str, Any], encoded: Any) -> None:
    """Tell the watchers what prompts were encoded as; see ``Watcher.encoded``."""
    for one in _watchers.get():
        one.encoded(pipeline, arguments, encoded)


def telling(encode: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a class's ``encode_prompt``, so that watchers are told what it returns."""

    @wraps(encode)
    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> Any:
        encoded = encode(self, *args, **kwargs)
        if _watchers.get():
            tell_encoded(self, named_arguments(encode, (self, *args), kwargs), encoded)
        return encoded

    return encode_prompt
