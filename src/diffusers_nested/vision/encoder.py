"""From images to features: a frozen vision tower with its preprocessing (arXiv 2501.01407, section 3.3)."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import NestedAdapterError, SubjectError
from ..files.limits import MAX_RESIZED_PIXELS
from ..images import to_pil
from .kinds import TOWER_KINDS, last_hidden_state


class ImageEncoder:
    """A frozen vision tower with its preprocessing.

    Args:
        model: A vision model of transformers, of a kind that this package reads or any other whose output has
            ``last_hidden_state`` (B, L, D).
        processor: Its image processor; maps PIL images to ``pixel_values``.
    """

    def __init__(self, model: PreTrainedModel, processor: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        kind = TOWER_KINDS.get(model.config.model_type)
        self._features = last_hidden_state if kind is None else kind.features

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
        return self._features(self.model(pixels.to(self.model.device, self.model.dtype)))


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
