"""Hooks a pipeline's UNet while a trace is open, and hands what runs there to the record of the call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import nn

from ..compat import own_call, uncompiled
from ..errors import NestedAdapterError
from ..injection import named_inputs
from ..pipelines.nested_call import NestedCall
from ..pipelines.state import inner_unet, loaded_on
from ..pipelines.watching import add_watcher, remove_watcher
from .locate import Site, traced_sites
from .record import CallRecord

_COMPILED = (
    "The UNet is compiled, and a compiled UNet does not call what looks inside. Trace before torch.compile, or load "
    "the pipeline once more without it."
)
# The calls that are running in this context, and whose recorder's they are; None for those of other pipelines.
_running: ContextVar[tuple[tuple[Any, CallRecord | None], ...]] = ContextVar("diffusers_nested_traced", default=())


class Recorder:
    """Records the calls of one pipeline, of the thread or task that starts it.

    Args:
        pipeline: The pipeline.
        layers: Which layers; see ``traced_sites``.
        heads: Whether heads are kept apart.
        steps: Whether steps are kept apart.

    Attributes:
        sites: The traced layers.
        others: How many calls of other pipelines ran meanwhile.
        failed: How many calls of the pipeline raised.

    Raises:
        NestedAdapterError: The UNet has no such layer, or is compiled.
    """

    def __init__(self, pipeline: Any, layers: str | Sequence[str] | None, heads: bool, steps: bool) -> None:
        self._pipeline, self._heads, self._steps = pipeline, heads, steps
        self._unet = inner_unet(pipeline)
        self.sites = traced_sites(self._unet, layers)
        self.others = self.failed = 0
        self._last: CallRecord | None = None
        self._hooks: list[Any] = []
        self._check_compiled()

    @property
    def is_started(self) -> bool:
        """Whether it is recording."""
        return bool(self._hooks)

    def start(self) -> None:
        """Record from now on."""
        self._check_compiled()
        add_watcher(self)
        unet = self._unet
        self._hooks.append(unet.register_forward_pre_hook(self._before_unet, with_kwargs=True))
        self._hooks.append(unet.register_forward_hook(self._after_unet, always_call=True))
        for site in self.sites:
            self._hooks.append(site.layer.register_forward_pre_hook(partial(self._before, site), with_kwargs=True))

    def stop(self) -> None:
        """Leave the UNet as it was; what is recorded stays."""
        remove_watcher(self)
        while self._hooks:
            self._hooks.pop().remove()

    def record(self) -> CallRecord | None:
        """The call that is running, or the last one that has ended."""
        return self._current() or self._last

    @contextmanager
    def watch(self, pipeline: Any, subjects: NestedCall | None) -> Iterator[Callable[[Any], None]]:
        """Record a call; see ``Watcher``."""
        record, earlier = None, self._last
        if pipeline is self._pipeline:
            record = CallRecord(pipeline, subjects, self._heads, self._steps)
            if self._is_compiled():
                record.fail(NestedAdapterError(_COMPILED))
        token = _running.set((*_running.get(), (self, record)))

        def tell(output: Any) -> None:
            # a class's own call may leave everything to a call within, with subjects that it fills in
            if record is not None and (record.steps or self._last is earlier):
                record.output, self._last = output, record

        try:
            yield tell
        except BaseException:
            self.failed += record is not None
            raise
        finally:
            self.others += record is None
            _running.reset(token)

    def encoded(self, pipeline: Any, arguments: Mapping[str, Any], encoded: Any) -> None:
        """Record prompts; see ``Watcher``."""
        record = self._current()
        if record is not None:
            record.encoded(arguments, encoded[0], encoded[1])

    def _current(self) -> CallRecord | None:
        """The innermost call that is running, if it is the pipeline's."""
        return next((record for owner, record in reversed(_running.get()) if owner is self), None)

    # Another thread may be in the middle of a call while hooks come and go: then torch calls them without keywords.

    @torch.no_grad()
    def _before_unet(self, unet: nn.Module, args: Any, kwargs: Any = None) -> None:
        record = self._current()
        if record is not None and kwargs is not None:
            record.begin_pass(*named_inputs(args, kwargs))

    def _after_unet(self, unet: nn.Module, args: Any, output: Any) -> None:
        record = self._current()
        if record is not None:
            record.end_pass()

    @torch.no_grad()
    def _before(self, site: Site, layer: nn.Module, args: Any, kwargs: Any = None) -> None:
        record = self._current()
        if record is None or kwargs is None:
            return
        names = ("hidden_states", "encoder_hidden_states", "attention_mask")
        given = dict(zip(names, args, strict=False)) | kwargs
        text = given.get("encoder_hidden_states")
        text = text[0] if isinstance(text, tuple) else text  # IP-Adapter passes (prompt, image tokens)
        if text is not None:
            record.see(site, (given["hidden_states"], text, given.get("attention_mask")))

    def _check_compiled(self) -> None:
        if self._is_compiled():
            raise NestedAdapterError(_COMPILED)

    def _is_compiled(self) -> bool:
        state, outer = loaded_on(self._unet), self._pipeline.unet
        gates = [] if state is None else [state.injector.gate]
        own = [gate.compiled_call(outer) for gate in gates] or [own_call(outer)]
        inner = [one for one in self._unet.modules() if one is not self._unet]
        return (
            outer is not self._unet
            or any(one is not None for one in own)
            or any(own_call(one) is not None or uncompiled(one) is not one for one in inner)
        )
