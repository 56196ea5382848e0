"""An adapter that is loaded on a UNet: from photos to what every layer reads."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..adapter import NestedAdapter
from ..adapter.checks import check_extremes, extremes
from ..compat import execution_device
from ..errors import SubjectError
from ..injection import Dial, Kind, ProjectedSubject, Read, Storage, split_heads
from ..mechanisms import Mechanism
from ..subjects import ResolvedSubject
from ..vision import ImageEncoder, ImageEncoders, check_encoded, joined
from ..vision.kinds import POOLED
from ..vision.several import each_of
from .cache import CacheKey, SubjectCache, SubjectReading, computing_state, digest_of, weights_state
from .photo_warnings import warn_of_photos


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter that is loaded on a UNet.

    Attributes:
        name: The name under which it is loaded.
        adapter: The adapter.
        encoder: Its image encoder; None if it was loaded without one.
        encoder_names: Where its vision towers come from; adapters share those of the same name.
        subject_token: The word that stands for its subjects by default.
        mechanism: How its subjects enter a layer.
        alpha: Norm of a subject's value in units of the word's own.
        heads: Layer path -> number of heads.
        dials: Layer path -> scale, initially 1.
    """

    name: str
    adapter: NestedAdapter
    encoder: ImageEncoder | ImageEncoders | None
    encoder_names: tuple[str, ...]
    subject_token: str
    mechanism: Mechanism
    alpha: float | None
    heads: Mapping[str, int]
    dials: dict[str, Dial] = field(init=False)
    # an empty image's features, once they were needed, and the state of the encoder that gave them
    _empty: tuple[Hashable, Tensor] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.dials = {path: Dial(1.0) for path in self.adapter.config["layers"]}

    @torch.no_grad()
    def encode(self, pipeline: Any, images: Sequence[Any]) -> Tensor:
        """Encode images as subject tokens, (images, N, token_dim).

        Raises:
            SubjectError: The adapter was loaded without an image encoder.
            NestedAdapterError: The image encoder or the adapter gives NaN or infinite values.
        """
        encoder = self._require_encoder()
        return self._encode(pipeline, encoder, _pixels(encoder, images))

    @torch.no_grad()
    def project(
        self, pipeline: Any, subject: ResolvedSubject, storage: Storage, cache: SubjectCache
    ) -> ProjectedSubject:
        """Compute what every layer reads of a subject, unless it is kept from an earlier call.

        Raises:
            NestedAdapterError: The images cannot be encoded, or what the layers would read is not finite.
        """
        if subject.embeds is not None:
            encoder, given = None, [subject.embeds]
        else:
            encoder = self._require_encoder()
            given = _pixels(encoder, subject.images)
        key = None if cache.is_off else self._cache_key(pipeline, given, encoder, storage)
        reading = None if key is None else cache.get(key)
        if reading is None:
            warn_of_photos(self.name, self.adapter.config, subject.images)
            reading = self._read(pipeline, given, encoder, storage)
            if key is not None:
                cache.put(key, reading)
        return self._projected(subject, reading, execution_device(pipeline))

    def _require_encoder(self) -> ImageEncoder | ImageEncoders:
        if self.encoder is None:
            raise SubjectError(
                f"The adapter {self.name!r} was loaded without an image encoder. Pass `nested_adapter_image_embeds`, "
                "or load it without image_encoder_folder=None."
            )
        return self.encoder

    def _cache_key(
        self, pipeline: Any, given: Sequence[Tensor], encoder: ImageEncoder | ImageEncoders | None, storage: Storage
    ) -> CacheKey | None:
        """What a subject's reading follows from; None if it cannot be told."""
        # with the empty image, the encoder counts for subjects that are given as embeddings, too
        parts = self.encoder.parts if self.encoder and (encoder or self._reads_empty) else ()
        states = [weights_state(model) for model in (self.adapter, *(part.model for part in parts))]
        if None in states:
            return None
        computing = computing_state(execution_device(pipeline))
        state = (*states, self.mechanism.name, self.adapter.dtype, pipeline.unet.dtype, storage, computing)
        return CacheKey(self.name, state, (encoder is None, *map(digest_of, given)))

    def _read(
        self, pipeline: Any, given: Sequence[Tensor], encoder: ImageEncoder | ImageEncoders | None, storage: Storage
    ) -> SubjectReading:
        """What the layers read of each tower's pixels (images, 3, H, W), or of embeddings if there is no encoder."""
        embeds = given[0] if encoder is None else self._encode(pipeline, encoder, given)
        nothing = self._empty_features(pipeline) if self._reads_empty else None
        with _on_device(self.adapter, pipeline) as device:
            layers = self._layers(embeds, device, pipeline.unet.dtype, storage)
            empty = None
            if nothing is not None:
                tokens = self._tokens(nothing, device)
                empty = SubjectReading(self._layers(tokens, device, pipeline.unet.dtype, storage), tokens.shape[1])
        return SubjectReading(layers, embeds.shape[:2].numel(), empty)

    def _encode(self, pipeline: Any, encoder: ImageEncoder | ImageEncoders, pixels: Sequence[Tensor]) -> Tensor:
        read = []
        wanted = each_of(self.adapter.image_features, len(encoder.parts))
        for part, given, features in zip(encoder.parts, pixels, wanted, strict=True):
            with _on_device(part.model, pipeline):  # one tower after another, so that no more than one is there
                read.append(part.read(given, features))
        with _on_device(self.adapter, pipeline) as device:
            return self._tokens(joined(read), device)

    def _tokens(self, features: Tensor, device: torch.device) -> Tensor:
        """Features (images, L, D) as subject tokens, (images, N, token_dim)."""
        tokens = self.adapter.encode(features.to(device, self.adapter.dtype))
        check_encoded(tokens, features)
        return tokens

    def _layers(self, embeds: Tensor, device: torch.device, dtype: torch.dtype, storage: Storage) -> dict[str, Read]:
        """What the layers read of a subject's tokens (images, N, token_dim), in the UNet's type."""
        # Photos of one subject: their tokens one after another, (images, N, D) -> (1, images · N, D) (section 5.2)
        tokens = embeds.to(device, self.adapter.dtype).flatten(0, 1)[None]
        layers: dict[str, Read] = {}
        ends: list[Tensor] = []
        if self.mechanism.projection is None:  # all layers read the tokens themselves, which are stored once
            tokens = tokens.to(dtype)
            ends.append(extremes([tokens]))
            layers = dict.fromkeys(self.adapter.config["layers"], storage.keep([tokens]))
        else:  # layer by layer, so that no more than one is in memory twice
            for path, projected in self.adapter.project_by_layer(tokens):
                read = split_heads([x.to(dtype) for x in projected], self.heads[path])
                ends.append(extremes(read))
                layers[path] = storage.keep(read)
        check_extremes(ends, dtype)
        return layers

    def _projected(self, subject: ResolvedSubject, reading: SubjectReading, device: torch.device) -> ProjectedSubject:
        """The subject with its own strength, weights and mask."""
        kind = self._kind(subject, reading.num_tokens)
        mask = None if subject.mask is None else subject.mask.to(device)
        weights = subject.image_weights
        log_weights = None if weights is None else _log_weights(weights, reading.num_tokens // len(weights), device)
        empty = self._empty_image(kind, reading.empty, mask) if self._reads_empty else None
        return ProjectedSubject(kind, reading.layers, log_weights, mask, empty)

    def _empty_image(
        self, kind: Kind, reading: SubjectReading | None, mask: Tensor | None
    ) -> ProjectedSubject | SubjectError:
        """What stands for the subject in rows of negative prompts: one empty image, as several would read alike."""
        if reading is None:
            return SubjectError(
                f"The adapter {self.name!r} was loaded without an image encoder, but as in IP-Adapter, the rows of "
                "negative prompts read an empty image, which it encodes. Load it without image_encoder_folder=None, or "
                "call the pipeline without guidance."
            )
        kind = replace(kind, num_tokens=reading.num_tokens, is_weighted=False)
        return ProjectedSubject(kind, reading.layers, mask=mask)

    def _empty_features(self, pipeline: Any) -> Tensor | None:
        """Features of an empty image (1, L, D); None if they need the image encoder and there is none."""
        wanted = self.adapter.image_features
        if wanted == POOLED:
            return torch.zeros(1, 1, self.adapter.config["image_feature_dim"])
        if self.encoder is None:
            return None
        (encoder,) = self.encoder.parts  # encoders that read an empty image read a single tower
        state = weights_state(encoder.model)
        if state is None or self._empty is None or self._empty[0] != state:
            with _on_device(encoder.model, pipeline):
                self._empty = state, encoder.empty(str(wanted))
        return self._empty[1]

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
            reads_empty_image=self._reads_empty,
        )

    @property
    def _reads_empty(self) -> bool:
        """Whether rows of negative prompts read an empty image."""
        return self.mechanism.reads_empty_image and self.adapter.reads_empty_image


def _pixels(encoder: ImageEncoder | ImageEncoders, images: Sequence[Any]) -> list[Tensor]:
    """What each tower is given of the images."""
    return [part.pixels(images) for part in encoder.parts]


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


def _log_weights(weights: Sequence[float], tokens_per_image: int, device: torch.device) -> Tensor:
    """(images,) weights -> (1, images · N) log-weights; −∞ for an image that is left out."""
    logs = torch.tensor(weights, dtype=torch.float64).log()
    # only ratios count, so the largest is 1: no weight is too large for float32, nor are all too small
    return (logs - logs.max()).to(device, torch.float32).repeat_interleave(tokens_per_image)[None]
