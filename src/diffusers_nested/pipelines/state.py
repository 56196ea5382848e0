"""What is loaded on a UNet: adapters, image encoders, scales, and the injected processors."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from ..adapter import NestedAdapter
from ..backbones import backbone_of, titles
from ..compat import uncompiled
from ..errors import NestedAdapterError, ScaleError
from ..injection import Dial, NestedInjector, expand_scale
from ..vision import ImageEncoder

_ATTRIBUTE = "_nested_adapter_state"


class NestedState:
    """Lives with the UNet, so that pipelines that share it share its adapters."""

    def __init__(self, unet: nn.Module) -> None:
        self.backbone = backbone_of(unet)
        self.injector = NestedInjector(unet)
        self.adapters: dict[str, NestedAdapter] = {}
        self.encoders: dict[str, ImageEncoder | None] = {}
        self.encoder_names: dict[str, str | None] = {}
        self.dials: dict[str, dict[str, Dial]] = {}

    def add(self, name: str, adapter: NestedAdapter, encoder: ImageEncoder | None, encoder_name: str | None) -> None:
        """Add an adapter that fits, at scale 1."""
        self.injector.inject()
        self.adapters[name] = adapter
        self.encoders[name] = encoder
        self.encoder_names[name] = encoder_name
        self.dials[name] = {path: Dial(1.0) for path in adapter.config["layers"]}

    def remove(self, name: str) -> None:
        """Remove an adapter; with the last one the UNet is as before the first."""
        for table in (self.adapters, self.encoders, self.encoder_names, self.dials):
            del table[name]
        if not self.adapters:
            self.injector.eject()

    def check_idle(self, names: Collection[str]) -> None:
        """Raise if a call that is running uses one of the adapters.

        Raises:
            NestedAdapterError: Names one of them.
        """
        busy = [name for call in self.injector.gate.calls for name in sorted(call.adapters) if name in names]
        if busy:
            raise NestedAdapterError(
                f"The adapter {busy[0]!r} is in use by a call that is running. Unload it after the call; to turn it "
                "off on the way, use set_nested_adapter_scale(0.0)."
            )

    def shared_encoder(self, encoder_name: str) -> ImageEncoder | None:
        """An image encoder that another adapter has loaded already."""
        for name, known in self.encoder_names.items():
            if known == encoder_name:
                return self.encoders[name]
        return None

    def require(self, name: str) -> NestedAdapter:
        """The adapter of that name.

        Raises:
            NestedAdapterError: None is loaded under this name.
        """
        if name not in self.adapters:
            raise NestedAdapterError(f"No adapter {name!r} is loaded. Loaded: {', '.join(self.adapters) or 'none'}.")
        return self.adapters[name]

    def only_name(self) -> str:
        """The name of the single loaded adapter.

        Raises:
            NestedAdapterError: Several are loaded.
        """
        if len(self.adapters) > 1:
            raise NestedAdapterError(
                f"{len(self.adapters)} adapters are loaded: {', '.join(self.adapters)}. Pass adapter_name=..."
            )
        return next(iter(self.adapters))

    def set_scale(self, scale: Any) -> None:
        """Turn the dials; see ``NestedAdapterMixin.set_nested_adapter_scale``."""
        if isinstance(scale, Mapping) and not scale:
            raise ScaleError("The scale is an empty dict. Pass a number, or name adapters or blocks in it.")
        per_adapter = isinstance(scale, Mapping) and bool(scale) and not set(scale) <= {"down", "mid", "up"}
        wanted = scale if per_adapter else dict.fromkeys(self.adapters, scale)
        unknown = [name for name in wanted if name not in self.adapters]
        if unknown:
            raise ScaleError(
                f"Unknown adapter or block {unknown[0]!r} in the scale. Loaded adapters: "
                f"{', '.join(self.adapters)}; blocks are 'down', 'mid' and 'up'."
            )
        expanded = {name: expand_scale(value, self.dials[name]) for name, value in wanted.items()}
        for name, values in expanded.items():
            for path, value in values.items():
                self.dials[name][path].set(value)


def inner_unet(pipeline: Any) -> nn.Module:
    """The pipeline's UNet, out of the wrapper that ``torch.compile`` may have put around it.

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
    """What is loaded on the pipeline's UNet, None if nothing is."""
    return loaded_on(inner_unet(pipeline))


def loaded_on(unet: Any) -> NestedState | None:
    """What is loaded on a UNet, None if nothing is."""
    return getattr(unet, _ATTRIBUTE, None)


def create_state(pipeline: Any) -> NestedState:
    """The UNet's state, made if there is none yet."""
    unet = inner_unet(pipeline)
    state = getattr(unet, _ATTRIBUTE, None)
    if state is None:
        state = NestedState(unet)
        setattr(unet, _ATTRIBUTE, state)
    return state


def drop_state(pipeline: Any) -> None:
    """Forget an empty state."""
    delattr(inner_unet(pipeline), _ATTRIBUTE)


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
