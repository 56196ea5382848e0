"""Whose forward pass it is: the UNet serves one at a time, each with the subjects of the call that it belongs to.

Pipelines share UNets, threads share pipelines, and a callback may call a pipeline in the middle of another call. A
call is known by the context that it runs in (PEP 567), which is a thread's own and is put back when the call ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any, Protocol

from torch import Tensor, nn

from ..compat import class_call, own_call, set_own_call
from .placed import RowGroup

Groups = list[tuple[RowGroup, list[bool]]]


class Call(Protocol):
    """A pipeline's call with subjects."""

    @property
    def gate(self) -> "Gate":
        """The gate of the UNet in which its subjects act."""
        ...

    def groups(self, sample: Tensor, timestep: object, states: Tensor) -> Groups:
        """Groups of rows for one forward pass, each with which of its subjects act in this step."""
        ...


_current: ContextVar[Any] = ContextVar("diffusers_nested_call", default=None)


def current_call() -> Any:
    """The innermost call that the caller runs in; None if that one has no subjects, or if there is none."""
    return _current.get()


class Gate:
    """Lets one forward pass at a time through a UNet.

    Args:
        post: Tells the UNet's layers which groups act in the forward pass to come; given none, all are plain.

    Attributes:
        lock: Held during a forward pass.
        calls: The calls with subjects that are running.
    """

    def __init__(self, post: Callable[[Groups], None]) -> None:
        self._post = post
        self._posted: Groups = []
        self._served: dict[int, list[Any]] = {}  # id of a module -> how many calls go through it, and what it had
        self.lock = RLock()
        self.calls: list[Any] = []

    def __reduce__(self) -> Any:
        # a copy of a UNet is in no call, and its lock is its own
        return Gate, (self._post,)

    @contextmanager
    def serve(self, unet: nn.Module, call: Call | None) -> Iterator[None]:
        """Serve a pipeline's call until it ends.

        Args:
            unet: The module that the pipeline calls: the UNet, or what wraps it.
            call: None for a call without subjects, which is a plain one whatever runs around or beside it.
        """
        token = _current.set(call)
        self._enter(unet)
        if call is not None:
            self.calls.append(call)
        try:
            yield
        finally:
            if call is not None:
                self.calls.remove(call)
            self._leave(unet)
            _current.reset(token)

    def _enter(self, unet: nn.Module) -> None:
        with self.lock:
            served = self._served.setdefault(id(unet), [0, None, None])
            served[0] += 1
            had = own_call(unet)
            if served[0] == 1 or had is not served[1]:  # or unet.compile() has been called since
                served[1:] = self._through(unet, had), had
                set_own_call(unet, served[1])

    def _leave(self, unet: nn.Module) -> None:
        with self.lock:
            served = self._served[id(unet)]
            served[0] -= 1
            if served[0]:
                return
            del self._served[id(unet)]
            if own_call(unet) is served[1]:
                set_own_call(unet, served[2])

    def _through(self, unet: nn.Module, compiled: Callable[..., Any] | None) -> Callable[..., Any]:
        """What stands for the module's call: it comes before hooks, and is no part of what is compiled."""

        def through(*args: Any, **kwargs: Any) -> Any:
            call = _current.get()
            with self.lock:
                before = self._posted
                groups = [] if call is None or call.gate is not self else call.groups(*_named(args, kwargs))
                self._tell(groups)
                try:
                    return (compiled or class_call(unet))(*args, **kwargs)
                finally:
                    self._tell(before)

        return through

    def _tell(self, groups: Groups) -> None:
        if groups or self._posted:
            self._post(groups)
        self._posted = groups


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    given = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=False)) | kwargs
    return given["sample"], given["timestep"], given["encoder_hidden_states"]
