"""Lets one forward pass at a time through the UNet, with the subjects of the call that it belongs to.

Pipelines share UNets, threads share pipelines, and a callback may call a pipeline in the middle of another call. A
call is identified by its context (PEP 567), which belongs to one thread and is restored when the call ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any, Protocol

from torch import Tensor, nn

from ..compat import class_call, own_call, set_own_call
from .groups import RowGroup

Groups = list[tuple[RowGroup, list[bool]]]


class Call(Protocol):
    """A pipeline's call with subjects."""

    @property
    def gate(self) -> "Gate":
        """The gate of the UNet in which its subjects act."""
        ...

    def groups(self, sample: Tensor, timestep: object, states: Tensor) -> Groups:
        """Groups of rows for one forward pass, each with a flag per subject: whether it acts in this step."""
        ...


_current: ContextVar[Any] = ContextVar("diffusers_nested_call", default=None)


def current_call() -> Any:
    """The innermost pipeline call around the caller; None if there is none, or if it has no subjects."""
    return _current.get()


@contextmanager
def outside_calls() -> Iterator[None]:
    """A pipeline's call on a UNet without adapters, which belongs to no call around it."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


class Gate:
    """Lets one forward pass at a time through a UNet.

    Args:
        post: Tells the UNet's layers which groups act in the next forward pass; without groups, all rows are plain.

    Attributes:
        lock: Held during a forward pass.
        calls: The calls with subjects that are running.
    """

    def __init__(self, post: Callable[[Groups], None]) -> None:
        self._post = post
        self._posted: Groups = []
        # id of a module -> number of calls through it, our stand-in, and what was there before
        self._served: dict[int, list[Any]] = {}
        self.lock = RLock()
        self.calls: list[Any] = []

    def __reduce__(self) -> Any:
        # a copy of a UNet is in no call and has its own lock
        return Gate, (self._post,)

    @contextmanager
    def serve(self, unet: nn.Module, call: Call | None) -> Iterator[None]:
        """Serve a pipeline's call until it ends.

        Args:
            unet: The module that the pipeline calls: the UNet, or what wraps it.
            call: None for a call without subjects, which stays plain whatever runs around or beside it.
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

    def compiled_call(self, unet: nn.Module) -> Callable[..., Any] | None:
        """The call that others have set on the module, such as ``unet.compile()``; None if there is none."""
        with self.lock:
            served = self._served.get(id(unet))
            had = own_call(unet)
            return served[2] if served is not None and had is served[1] else had

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
        """A stand-in for the module's call, which runs before hooks and is not compiled."""

        def through(*args: Any, **kwargs: Any) -> Any:
            call = _current.get()
            with self.lock:
                before = self._posted
                groups = [] if call is None or call.gate is not self else call.groups(*named_inputs(args, kwargs))
                try:
                    self._tell(groups)
                    return (compiled or class_call(unet))(*args, **kwargs)
                finally:
                    self._tell(before)

        return through

    def _tell(self, groups: Groups) -> None:
        had, self._posted = self._posted, groups  # first: posting may fail halfway, without memory
        if groups or had:
            self._post(groups)


def named_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Sample, timestep and prompt embeddings among the arguments of a UNet's call."""
    given = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=False)) | kwargs
    return given["sample"], given["timestep"], given["encoder_hidden_states"]
