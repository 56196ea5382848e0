"""What is loaded on a UNet, and how strongly it acts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from threading import RLock
from typing import Any

from torch import nn

from ..backbones import backbone_of, titles
from ..compat import uncompiled
from ..errors import NestedAdapterError, ScaleError
from ..injection import NestedInjector, ProjectedSubject, Storage, expand_scale
from ..subjects import ResolvedSubject
from .cache import SubjectCache
from .loaded import LoadedAdapter

BLOCKS = ("down", "mid", "up")  # keys of a scale by block, so they cannot name adapters
CHANGING = RLock()  # held while what is loaded on a UNet changes
_ATTRIBUTE = "_nested_adapter_state"


class NestedState:
    """All that is loaded on one UNet. It lives with the UNet, so pipelines that share the UNet share its adapters.

    Attributes:
        backbone: The family of the UNet.
        injector: Lets subjects act in the UNet.
        loaded: The adapters by name.
        storage: Where and how what layers read of subjects waits for them.
        cache: Subjects of earlier calls.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self.backbone = backbone_of(unet)
        self.injector = NestedInjector(unet)
        self.loaded: dict[str, LoadedAdapter] = {}
        self.storage = Storage()
        self.cache = SubjectCache()

    @property
    def subject_tokens(self) -> dict[str, str]:
        """The word of each adapter, by the adapter's name."""
        return {name: loaded.subject_token for name, loaded in self.loaded.items()}

    def add(self, loaded: LoadedAdapter) -> None:
        """Add an adapter that fits."""
        self.injector.inject()
        self.loaded[loaded.name] = loaded

    def remove(self, name: str) -> None:
        """Remove an adapter; with the last one the UNet is as before the first."""
        del self.loaded[name]
        self.cache.drop(name)
        if not self.loaded:
            self.injector.eject()

    def drop(self) -> None:
        """Leave the UNet, which may by now be inside a wrapper that only shows its attributes, such as peft's."""
        vars(self._unet).pop(_ATTRIBUTE, None)

    def project(self, pipeline: Any, subject: ResolvedSubject) -> ProjectedSubject:
        """What every layer reads of a subject; see ``LoadedAdapter.project``."""
        return self.loaded[subject.adapter_name].project(pipeline, subject, self.storage, self.cache)

    def set_storage(self, storage: Storage) -> None:
        """Store what layers read of subjects in this way, from the next call on."""
        with self.injector.gate.lock:  # all subjects of a call are stored in one way
            self.storage = storage
            self.cache.clear()

    def check_idle(self, names: Collection[str]) -> None:
        """Raise if a running call uses one of the adapters.

        Raises:
            NestedAdapterError: Names one of them.
        """
        busy = [name for call in self.injector.gate.calls for name in sorted(call.adapters) if name in names]
        if busy:
            raise NestedAdapterError(
                f"The adapter {busy[0]!r} is in use by a running call. Unload it after the call; to turn it off during "
                "the call, use set_nested_adapter_scale(0.0)."
            )

    def named(self, names: Sequence[Any]) -> list[str]:
        """Names of adapters, each once.

        Raises:
            NestedAdapterError: There are none, or no adapter has one of them.
        """
        if not names:
            raise NestedAdapterError("The list of adapters is empty. Name at least one, or leave it out for all.")
        for name in names:
            if not isinstance(name, str) or name not in self.loaded:
                raise NestedAdapterError(f"No adapter {name!r} is loaded. Loaded: {', '.join(self.loaded)}.")
        return list(dict.fromkeys(names))

    def require(self, name: str | None = None) -> LoadedAdapter:
        """The adapter of that name, or the only one loaded.

        Raises:
            NestedAdapterError: No adapter has this name, or several are loaded and no name is given.
        """
        if not name and len(self.loaded) > 1:
            raise NestedAdapterError(
                f"{len(self.loaded)} adapters are loaded: {', '.join(self.loaded)}. Pass adapter_name=..."
            )
        name = name or next(iter(self.loaded))
        if not isinstance(name, str) or name not in self.loaded:
            raise NestedAdapterError(f"No adapter {name!r} is loaded. Loaded: {', '.join(self.loaded) or 'none'}.")
        return self.loaded[name]

    def set_scale(self, scale: Any) -> None:
        """Turn the dials; see ``NestedAdapterMixin.set_nested_adapter_scale``."""
        per_adapter = isinstance(scale, Mapping) and not set(scale) <= set(BLOCKS)
        wanted = scale if per_adapter else dict.fromkeys(self.loaded, scale)
        unknown = [name for name in wanted if name not in self.loaded]
        blocks = [name for name in unknown if name in BLOCKS]
        if blocks and len(unknown) < len(wanted):
            name = next(name for name in wanted if name in self.loaded)
            raise ScaleError(
                f"The scale names an adapter, {name!r}, beside a block, {blocks[0]!r}. Put the blocks of an adapter in "
                f"a dict of its own: {{{name!r}: {{{blocks[0]!r}: ...}}}}."
            )
        if unknown:
            raise ScaleError(
                f"Unknown adapter or block {unknown[0]!r} in the scale. Loaded adapters: "
                f"{', '.join(self.loaded)}; blocks are 'down', 'mid' and 'up'."
            )
        if any(isinstance(value, Mapping) and not value for value in wanted.values()):
            raise ScaleError("A scale is an empty dict. Pass a number, 0 for off, or a dict that names blocks.")
        expanded = {name: expand_scale(value, self.loaded[name].dials) for name, value in wanted.items()}
        for name, values in expanded.items():
            for path, value in values.items():
                self.loaded[name].dials[path].set(value)


def inner_unet(pipeline: Any) -> nn.Module:
    """The pipeline's UNet, without the wrapper of ``torch.compile``.

    Raises:
        NestedAdapterError: The pipeline has no UNet.
    """
    unet = getattr(pipeline, "unet", None)
    if not isinstance(unet, nn.Module):
        raise NestedAdapterError(
            f"{type(pipeline).__name__} has no UNet. Nested adapters are for pipelines of {titles()} with a `unet`."
        )
    return uncompiled(unet)


def state_of(pipeline: Any) -> NestedState | None:
    """The state of the pipeline's UNet; None if nothing is loaded."""
    return loaded_on(inner_unet(pipeline))


def loaded_on(unet: Any) -> NestedState | None:
    """The state of a UNet; None if nothing is loaded."""
    return getattr(unet, _ATTRIBUTE, None)


def create_state(pipeline: Any) -> NestedState:
    """The UNet's state, created if there is none yet."""
    unet = inner_unet(pipeline)
    state = getattr(unet, _ATTRIBUTE, None)
    if state is None:
        state = NestedState(unet)
        setattr(unet, _ATTRIBUTE, state)
    return state


def require_state(pipeline: Any) -> NestedState:
    """The UNet's state.

    Raises:
        NestedAdapterError: Nothing is loaded.
    """
    state = state_of(pipeline)
    if state is None:
        raise NestedAdapterError(
            "No nested adapter is loaded on this pipeline's UNet. Call pipe.load_nested_adapter(...) first."
        )
    return state


def around_processors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a pipeline's method that creates new processors for every layer: ours are put back around them."""

    @wraps(method)
    def lifted(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = None if getattr(self, "unet", None) is None else state_of(self)
        with nullcontext() if state is None else state.injector.lifted():
            return method(self, *args, **kwargs)

    return lifted
