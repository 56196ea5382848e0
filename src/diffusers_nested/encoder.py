"""From images to subject tokens: a frozen vision tower, then a Q-Former (arXiv 2501.01407, section 3.3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, PreTrainedModel

from .errors import NestedAdapterError, SubjectError
from .safe_files.limits import MAX_RESIZED_PIXELS


class SubjectEncoder(nn.Module):
    """Q-Former (as in BLIP-2) whose N learned queries read image features into N subject tokens."""

    def __init__(
        self,
        image_feature_dim: int,
        num_queries: int,
        token_dim: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
    ) -> None:
        super().__init__()
        config = Blip2QFormerConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            encoder_hidden_size=image_feature_dim,
            cross_attention_frequency=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.queries = nn.Parameter(torch.randn(1, num_queries, hidden_size) * 0.02)
        self.qformer = Blip2QFormerModel(config)
        self.to_tokens = nn.Sequential(nn.Linear(hidden_size, token_dim), nn.LayerNorm(token_dim))

    def forward(self, image_features: Tensor) -> Tensor:
        """Image features (B, L, image_feature_dim) -> subject tokens (B, N, token_dim)."""
        queries = self.queries.expand(len(image_features), -1, -1)
        read = self.qformer(query_embeds=queries, encoder_hidden_states=image_features)
        return self.to_tokens(read.last_hidden_state)


class ImageEncoder:
    """A frozen CLIP vision tower with its preprocessing.

    Args:
        model: A vision model of transformers whose output has ``last_hidden_state`` (B, L, D).
        processor: Its image processor; maps PIL images to ``pixel_values``.
    """

    def __init__(self, model: PreTrainedModel, processor: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor

    @property
    def feature_dim(self) -> int:
        """D, the width of the features."""
        return self.model.config.hidden_size

    @torch.no_grad()
    def __call__(self, images: Sequence[Any]) -> Tensor:
        """Features of the last layer before pooling, (B, L, D), class token included.

        Args:
            images: PIL images, arrays (H, W, C) or (H, W), or tensors (C, H, W); see ``to_pil``.

        Raises:
            SubjectError: One is no such image, or so long and narrow that resizing it would take too much memory.
        """
        opened = [to_pil(image) for image in images]
        for image in opened:
            _check_shape(image, self.processor)
        pixels = self.processor(images=opened, return_tensors="pt").pixel_values
        return self.model(pixels.to(self.model.device, self.model.dtype)).last_hidden_state


def check_encoded(tokens: Tensor, features: Tensor) -> None:
    """Raise unless encoded photos are finite; waits for the device once.

    Args:
        tokens: Subject tokens.
        features: The image features that they were encoded from.

    Raises:
        NestedAdapterError: Names who gave what is not finite, and its type.
    """
    if torch.isfinite(tokens).all():
        return
    is_encoder = not torch.isfinite(features).all()
    what, dtype = ("image features", features.dtype) if is_encoder else ("subject tokens", tokens.dtype)
    raise NestedAdapterError(
        f"The {'image encoder' if is_encoder else 'adapter'} gave {what} with NaN or infinite values, computed in "
        f"{dtype}. Load the adapter into a pipeline of a wider type, such as torch.bfloat16 or torch.float32; if they "
        "are so there, too, its weights cannot be used."
    )


def _check_shape(image: Image.Image, processor: Any) -> None:
    """Of a photo that is made larger until its shorter side is what the tower asks for, and only then cropped."""
    shorter = processor.size.get("shortest_edge") if processor.do_resize else None
    if shorter is None:
        return
    longer = shorter * max(image.size) // min(image.size)
    if shorter * longer > MAX_RESIZED_PIXELS:
        raise SubjectError(
            f"A photo of {image.width} x {image.height} pixels would be resized to {shorter} x {longer} for the image "
            f"encoder, more than {MAX_RESIZED_PIXELS} pixels. Cut out the part that matters."
        )


def to_pil(image: Any) -> Image.Image:
    """Any accepted image as RGB; what is transparent becomes white.

    Args:
        image: A PIL image; a uint8 array (0..255) or a float array (0..1) of shape (H, W) or (H, W, C); or
            such a tensor of shape (C, H, W).

    Raises:
        SubjectError: The type, shape or range is another.
    """
    if isinstance(image, Tensor):
        image = _tensor_to_array(image)
    if isinstance(image, np.ndarray):
        image = _array_to_pil(image)
    if not isinstance(image, Image.Image):
        raise SubjectError(
            f"Cannot use a {type(image).__name__} as an image. Expected a PIL image, an array (height, width, "
            "channels) or a tensor (channels, height, width); open a file with PIL.Image.open(path)."
        )
    if image.mode in ("I", "F", "La") or image.mode.startswith("I;"):
        raise SubjectError(
            f"Cannot use an image of mode {image.mode!r}: PIL would cut off all that is beyond 8 bits. Convert it to "
            "mode 'L' or 'RGB', or pass an array of floats in 0..1."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _tensor_to_array(image: Tensor) -> np.ndarray:
    if image.ndim != 3:
        raise SubjectError(
            f"An image tensor must have shape (channels, height, width), got {tuple(image.shape)}. Pass several "
            "images as a list."
        )
    image = image.detach().cpu().movedim(0, -1)
    return (image.float() if image.is_floating_point() else image).numpy()


def _array_to_pil(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or not array.size:
        raise SubjectError(
            f"An image array must have shape (height, width) or (height, width, 1, 3 or 4), got {array.shape}."
        )
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):
            raise SubjectError(
                f"A float image must lie in 0..1, got values from {low:.4g} to {high:.4g}. "
                "Rescale it, or pass a PIL image."
            )
        array = np.round(array.astype(np.float32) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise SubjectError(
            f"An image array must hold uint8 in 0..255 or floats in 0..1, got {array.dtype}. Convert it."
        )
    return Image.fromarray(np.ascontiguousarray(array))
