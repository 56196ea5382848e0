"""An adapter that is loaded on a UNet: from photos to what every layer reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..adapter import NestedAdapter
from ..adapter.checks import check_projected
from ..compat import execution_device
from ..errors import SubjectError
from ..injection import Dial, Kind, ProjectedSubject
from ..mechanisms import Mechanism
from ..subjects import ResolvedSubject
from ..vision import ImageEncoder, check_encoded
from ..vision.kinds import POOLED


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
    _empty: Tensor | None = field(init=False, default=None)  # an empty image's features, once they were needed

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
            return self._tokens(features, device)

    @torch.no_grad()
    def project(self, pipeline: Any, subject: ResolvedSubject) -> ProjectedSubject:
        """Compute what every layer reads of a subject; its images are encoded first.

        Raises:
            NestedAdapterError: The images cannot be encoded, or what the layers would read is not finite.
        """
        embeds = self.encode(pipeline, subject.images) if subject.embeds is None else subject.embeds
        images, tokens_per_image = embeds.shape[:2]
        kind, dtype = self._kind(subject, images * tokens_per_image), pipeline.unet.dtype
        nothing = self._empty_features(pipeline) if kind.reads_empty_image else None
        with _on_device(self.adapter, pipeline) as device:
            projected = ProjectedSubject(
                kind,
                self._layers(embeds, device, dtype),
                _log_weights(subject.image_weights, tokens_per_image, device),
                None if subject.mask is None else subject.mask.to(device),
            )
            if not kind.reads_empty_image:
                return projected
            return replace(projected, empty=self._empty_image(projected, nothing, device, dtype))

    def _tokens(self, features: Tensor, device: torch.device) -> Tensor:
        """Features (images, L, D) as subject tokens, (images, N, token_dim)."""
        tokens = self.adapter.encode(features.to(device, self.adapter.dtype))
        check_encoded(tokens, features)
        return tokens

    def _layers(self, embeds: Tensor, device: torch.device, dtype: torch.dtype) -> dict[str, tuple[Tensor, ...]]:
        """What the layers read of a subject's tokens (images, N, token_dim), in the UNet's type."""
        # Photos of one subject: their tokens one after another, (images, N, D) -> (1, images · N, D) (section 5.2)
        projected = self.adapter.project(embeds.to(device, self.adapter.dtype).flatten(0, 1)[None])
        layers = {path: tuple([x.to(dtype) for x in read]) for path, read in projected.items()}
        check_projected(layers)
        return layers

    def _empty_image(
        self, subject: ProjectedSubject, features: Tensor | None, device: torch.device, dtype: torch.dtype
    ) -> ProjectedSubject | SubjectError:
        """What stands for the subject in rows of negative prompts: one empty image, as several would read alike."""
        if features is None:
            return SubjectError(
                f"The adapter {self.name!r} was loaded without an image encoder, but as in IP-Adapter, the rows of "
                "negative prompts read an empty image, which it encodes. Load it without image_encoder_folder=None, or "
                "call the pipeline without guidance."
            )
        tokens = self._tokens(features, device)
        kind = replace(subject.kind, num_tokens=tokens.shape[1], is_weighted=False)
        return ProjectedSubject(kind, self._layers(tokens, device, dtype), mask=subject.mask)

    def _empty_features(self, pipeline: Any) -> Tensor | None:
        """Features of an empty image (1, L, D); None if they need the image encoder and there is none."""
        wanted = self.adapter.image_features
        if self._empty is None and wanted == POOLED:
            self._empty = torch.zeros(1, 1, self.adapter.config["image_feature_dim"])
        elif self._empty is None and self.encoder is not None:
            with _on_device(self.encoder.model, pipeline):
                self._empty = self.encoder.empty(wanted)
        return self._empty

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
            reads_empty_image=self.mechanism.reads_empty_image and self.adapter.reads_empty_image,
        )


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
