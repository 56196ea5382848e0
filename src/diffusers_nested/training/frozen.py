"""The frozen models of a training run: those of a pipeline, and the vision tower."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backbones import backbone_of
from ..errors import NestedAdapterError
from ..pipelines.state import inner_unet
from ..vision import ImageEncoder, ImageEncoders, read_images
from .stopwatch import Stopwatch


class FrozenModels:
    """Encodes images and captions with the frozen models, all on one device and in one dtype.

    Args:
        pipeline: A pipeline; its models are moved, cast, frozen and set to evaluation mode.
        image_encoder: The vision towers of the adapter.
        feature_dim: Width of the features that the adapter reads.
        device: Where to compute.
        dtype: Of the weights.
        features: Which features the adapter reads; see ``ImageEncoder``.

    Attributes:
        stopwatch: Measures the encoding of examples.

    Raises:
        NestedAdapterError: The UNet does not take plain latents, for example because it is made for inpainting.
    """

    def __init__(
        self,
        pipeline: Any,
        image_encoder: ImageEncoder | ImageEncoders,
        feature_dim: int,
        device: torch.device,
        dtype: torch.dtype,
        features: str | Sequence[str] = "last",
    ) -> None:
        self.pipeline = pipeline
        self.unet = pipeline.unet
        self.backbone = backbone_of(inner_unet(pipeline))
        self._vae = pipeline.vae
        self._tower = image_encoder
        self._feature_dim, self._features = feature_dim, features
        self._device = device
        self._dtype = dtype
        self.stopwatch = Stopwatch(device)
        latents, channels = self._vae.config.latent_channels, self.unet.config.in_channels
        if latents != channels:
            raise NestedAdapterError(
                f"The UNet takes {channels} channels, latents have {latents}: it is made for inpainting or editing. "
                "Train with the text-to-image model of its family; the adapter may fit both."
            )
        encoders = self.backbone.text_encoders_of(pipeline).values()
        towers = [part.model for part in image_encoder.parts]
        for model in (self.unet, self._vae, *towers, *encoders):
            _cast(model.to(device), dtype)  # pyright: ignore[reportArgumentType]
            model.requires_grad_(False).eval()

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, R, R) -> means of their latents in the UNet's scale, (B, C, r, r) in float32."""
        vae, config = self._vae, self._vae.config
        upcast = config.force_upcast and vae.dtype == torch.float16  # as in the pipelines: it overflows in fp16
        with self.stopwatch.span():
            _cast(vae, torch.float32 if upcast else self._dtype)
            means = vae.encode(pixels.to(self._device, vae.dtype)).latent_dist.mode().float()
            _cast(vae, self._dtype)
        if getattr(config, "latents_mean", None) is not None:
            shape = (1, -1, 1, 1)
            mean, std = (torch.tensor(x, device=means.device) for x in (config.latents_mean, config.latents_std))
            return (means - mean.view(shape)) * config.scaling_factor / std.view(shape)
        return means * config.scaling_factor

    @torch.no_grad()
    def prompts(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of captions (B, T, D) and their pooled embeddings (B, P); P may be 0."""
        with self.stopwatch.span():
            encoded = self.pipeline.encode_prompt(
                prompt=list(captions),
                device=self._device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        return self.backbone.text(encoded)

    @torch.no_grad()
    def no_prompt(self) -> tuple[Tensor, Tensor]:
        """The pipeline's unconditional embeddings (1, T, D) and (1, P)."""
        encoded = self.pipeline.encode_prompt(
            prompt="", device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=True
        )
        return self.backbone.text(encoded, negative=True)

    def features(self, images: Sequence[Any]) -> Tensor:
        """Features of images that the adapter reads, (B, L, D).

        Raises:
            NestedAdapterError: The adapter needs another vision tower.
        """
        with self.stopwatch.span():
            features = read_images(self._tower, images, self._features)
        if features.shape[-1] != self._feature_dim:
            raise NestedAdapterError(
                f"The image encoder gives features of width {features.shape[-1]}, the adapter reads "
                f"{self._feature_dim}. Use the image encoder that it was trained with, or build a new adapter with "
                f"image_feature_dim={features.shape[-1]}."
            )
        return features

    def no_image(self) -> Tensor:
        """Features of an empty image, (1, L, D)."""
        (tower,) = self._tower.parts  # encoders that read an empty image read a single tower
        return tower.empty(str(self._features))


def _cast(model: Any, dtype: torch.dtype) -> None:
    if model.dtype != dtype:  # diffusers warns of every cast
        model.to(dtype)
