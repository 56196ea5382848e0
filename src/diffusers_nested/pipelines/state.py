"""What is loaded on a UNet: adapters with their image encoders and scales."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter import NestedAdapter
from ..adapter.checks import check_projected
from ..backbones import backbone_of, titles
from ..compat import execution_device, uncompiled
from ..errors import NestedAdapterError, ScaleError, SubjectError
from ..injection import Dial, Kind, NestedInjector, ProjectedSubject, expand_scale
from ..mechanisms import Mechanism
from ..subjects import ResolvedSubject
from ..vision import ImageEncoder, check_encoded

CHANGING = RLock()  # held while what is loaded on a UNet changes
_ATTRIBUTE = "_nested_adapter_state"


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter that is loaded on a UNet.

    Attributes:
        name: The name under which it is loaded.
        adapter: The adapter.
        encoder: Its image encoder; None if it was loaded without one.
        encoder_name: Where the image encoder comes from; adapters with the same name share it.
        subject_token: The word that stands for its subjects by default.
        mechanism: How its subjects enter a layer.
        alpha: Norm of a subject's value in units of the word's own.
        dials: Layer path -> scale, initially 1.
    """

    name: str
    adapter: NestedAdapter
    encoder: ImageEncoder | None
    encoder_name: str | None
    subject_token: str
    mechanism: Mechanism
    alpha: float | None
    dials: dict[str, Dial] = field(init=False)

    def __post_init__(self) -> None:
        self.dials = {path: Dial(1.0) for path in self.adapter.config["layers"]}

    @torch.no_grad()
    def encode(self, pipeline: Any, images: Sequence[Any]) -> Tensor:
        """Encode images as subject tokens, (images, N, token_dim).

        Raises:
            SubjectError: The adapter was loaded without an image encoder.
            NestedAdapterError: The image encoder or the adapter gives NaN or infinite values.
        """
        if self.encoder is None:
            raise SubjectError(
                f"The adapter {self.name!r} was loaded without an image encoder. Pass `nested_adapter_image_embeds`, "
                "or load it without image_encoder_folder=None."
            )
        with _on_device(self.encoder.model, pipeline):
            features = self.encoder(images, self.adapter.image_features)
        with _on_device(self.adapter, pipeline) as device:
            tokens = self.adapter.encode(features.to(device, self.adapter.dtype))
        check_encoded(tokens, features)
        return tokens

    @torch.no_grad()
    def project(self, pipeline: Any, subject: ResolvedSubject) -> ProjectedSubject:
        """Compute what every layer reads of a subject; its images are encoded first.

        Raises:
            NestedAdapterError: The images cannot be encoded, or what the layers would read is not finite.
        """
        embeds = self.encode(pipeline, subject.images) if subject.embeds is None else subject.embeds
        with _on_device(self.adapter, pipeline) as device:
            # Photos of one subject: their tokens one after another, (images, N, D) -> (1, images · N, D) (section 5.2)
            tokens = embeds.to(device, self.adapter.dtype).flatten(0, 1)[None]
            projected = self.adapter.project(tokens)
        layers = {path: tuple([x.to(pipeline.unet.dtype) for x in read]) for path, read in projected.items()}
        check_projected(layers)
        return ProjectedSubject(
            self._kind(subject, tokens.shape[1]),
            layers,
            _log_weights(subject.image_weights, embeds.shape[1], device),
            None if subject.mask is None else subject.mask.to(device),
        )

    def _kind(self, subject: ResolvedSubject, num_tokens: int) -> Kind:
        dials = self.dials
        if subject.scale is not None:
            # one per layer, as in an adapter: a dial shared by all layers would recompile a compiled UNet
            dials = {path: Dial(subject.scale) for path in dials}
        return Kind(
            adapter=self.name,
            mechanism=self.mechanism,
            alpha=self.alpha,
            dials=dials,
            num_tokens=num_tokens,
            scale=subject.scale,
            steps=subject.steps,
            is_weighted=subject.image_weights is not None,
            is_masked=subject.mask is not None,
        )


class NestedState:
    """All that is loaded on one UNet. It lives with the UNet, so pipelines that share the UNet share its adapters.

    Attributes:
        backbone: The family of the UNet.
        injector: Lets subjects act in the UNet.
        loaded: The adapters by name.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self.backbone = backbone_of(unet)
        self.injector = NestedInjector(unet)
        self.loaded: dict[str, LoadedAdapter] = {}

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
        if not self.loaded:
            self.injector.eject()

    def drop(self) -> None:
        """Leave the UNet, which may by now be inside a wrapper that only shows its attributes, such as peft's."""
        vars(self._unet).pop(_ATTRIBUTE, None)

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
        if name not in self.loaded:
            raise NestedAdapterError(f"No adapter {name!r} is loaded. Loaded: {', '.join(self.loaded) or 'none'}.")
        return self.loaded[name]

    def set_scale(self, scale: Any) -> None:
        """Turn the dials; see ``NestedAdapterMixin.set_nested_adapter_scale``."""
        per_adapter = isinstance(scale, Mapping) and not set(scale) <= {"down", "mid", "up"}
        wanted = scale if per_adapter else dict.fromkeys(self.loaded, scale)
        unknown = [name for name in wanted if name not in self.loaded]
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


@contextmanager
def _on_device(module: Any, pipeline: Any) -> Iterator[torch.device]:
    """Move a module to the pipeline's device, and back only if the UNet is being offloaded."""
    home, device = module.device, execution_device(pipeline)
    module.to(device)
    try:
        yield device
    finally:
        if next(pipeline.unet.parameters()).device != device:
            module.to(home)


def _log_weights(weights: Sequence[float] | None, tokens_per_image: int, device: torch.device) -> Tensor | None:
    """(images,) weights -> (1, images · N) log-weights; −∞ for an image that is left out."""
    if weights is None:
        return None
    logs = torch.tensor(weights, dtype=torch.float64).log()
    # only ratios count, so the largest is 1: no weight is too large for float32, nor are all too small
    return (logs - logs.max()).to(device, torch.float32).repeat_interleave(tokens_per_image)[None]
