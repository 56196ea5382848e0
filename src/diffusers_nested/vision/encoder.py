"""From images to features: a frozen vision tower and its preprocessing (arXiv 2501.01407, section 3.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import AdapterLoadError, NestedAdapterError, SubjectError
from ..files.limits import MAX_RESIZED_PIXELS
from ..images import to_pil
from .kinds import LAST, PENULTIMATE, POOLED, Features
from .preprocessing import made_size
from .registry import DEFAULT_KIND, TOWER_KINDS
from .tower import OWN_FOLDER, PREPROCESSING, numbered


class ImageEncoder:
    """A frozen vision tower with its preprocessing.

    Args:
        model: A vision model of transformers, of a kind in ``TOWER_KINDS``.
        processor: Its image processor, which turns PIL images into ``pixel_values``.
    """

    def __init__(self, model: PreTrainedModel, processor: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor

    @property
    def parts(self) -> "tuple[ImageEncoder, ...]":
        """The single towers: itself."""
        return (self,)

    @property
    def kind(self) -> str:
        """The family of the model, by its ``model_type``."""
        return self.model.config.model_type

    @property
    def feature_dim(self) -> int:
        """D, the width of the features of the last layer."""
        return self.width_of(LAST)

    def width_of(self, features: str) -> int:
        """D, the width of these features."""
        return getattr(self.model.config, self._kind(features).width)

    def count_of(self, features: str) -> int:
        """L, the number of these features of an image."""
        if features == POOLED:
            return 1
        patch, (height, width) = self.model.config.patch_size, self._size
        return TOWER_KINDS[self.kind].tokens(self.model.config, (height // patch) * (width // patch))

    def adapter_settings(self, features: str = LAST) -> dict[str, Any]:
        """Settings of a new adapter that reads these features, for ``NestedAdapter.from_unet``.

        They are what a tower is checked against when the adapter is loaded: width, family and number of features; of a
        CLIP's last layer only the width, so that adapters for it stay as they always were.

        Args:
            features: Which ones; see ``__call__``.
        """
        settings: dict[str, Any] = {"image_feature_dim": self.width_of(features)}
        if features != LAST:
            settings["image_features"] = features
        if self.kind != DEFAULT_KIND:
            settings |= {"image_encoder_type": self.kind, "image_feature_count": self.count_of(features)}
        return settings

    def __call__(self, images: Sequence[Any], features: str = LAST) -> Tensor:
        """Image features (B, L, D).

        Args:
            images: PIL images, arrays (H, W, C) or (H, W), or tensors (C, H, W); see ``to_pil``.
            features: Which ones: ``"last"`` for those of the last layer before pooling, including the class token,
                ``"penultimate"`` for the layer before it, or ``"pooled"`` for the whole picture's, with L = 1.

        Raises:
            SubjectError: One of them is not an image, or is so narrow that resizing it would take too much memory.
        """
        return self.read(self.pixels(images), features)

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """What the tower is given of the images, (B, 3, H, W); see ``__call__``."""
        opened = [to_pil(image) for image in images]
        for image in opened:
            _check_shape(image, self.processor)
        return self.processor(images=opened, return_tensors="pt").pixel_values

    def save_pretrained(self, folder: str | Path, number: int = 1) -> None:
        """Save the tower where an adapter in this folder has it: in ``image_encoder/`` and ``feature_extractor/``.

        Args:
            folder: The adapter's folder.
            number: The tower's number, for adapters that read several: 2 is saved in ``image_encoder_2/``.
        """
        self.model.save_pretrained(Path(folder, numbered(OWN_FOLDER, number)))
        self.processor.save_pretrained(Path(folder, numbered(PREPROCESSING, number)))

    @torch.no_grad()
    def read(self, pixels: Tensor, features: str = LAST) -> Tensor:
        """Image features (B, L, D) of prepared pixels; see ``__call__``."""
        pixels = pixels.to(self.model.device, self.model.dtype)
        output = self.model(pixels, output_hidden_states=features == PENULTIMATE)
        return self._kind(features).pick(output, self.model.config)

    @torch.no_grad()
    def empty(self, features: str = LAST) -> Tensor:
        """What stands for "no image" in IP-Adapter: the features (1, L, D) of all-zero pixels, or zeros if pooled."""
        if features == POOLED:
            return torch.zeros(1, 1, self.width_of(POOLED), device=self.model.device, dtype=self.model.dtype)
        return self.read(torch.zeros(1, 3, *self._size), features)

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of what the tower is given."""
        side = self.model.config.image_size
        return made_size(self.processor) or (side, side)

    def _kind(self, features: str) -> Features:
        # looked up each time: a pickled encoder does not hold functions
        all_of_them = TOWER_KINDS[self.kind].features
        given = [name for name, one in all_of_them.items() if one.is_given(self.model)]
        if features not in given:
            raise AdapterLoadError(
                f"The image encoder is a {type(self.model).__name__} that gives no features of the kind {features!r}, "
                f"only {', '.join(given)}. Use the image encoder that the adapter was trained with."
            )
        return all_of_them[features]


def check_encoded(tokens: Tensor, features: Tensor) -> None:
    """Raise unless the subject tokens of photos are finite; synchronizes with the device once.

    Args:
        tokens: Subject tokens.
        features: The image features that they were encoded from.

    Raises:
        NestedAdapterError: Says which model computed NaN or infinite values, and in which type.
    """
    if torch.isfinite(tokens).all():
        return
    is_encoder = not torch.isfinite(features).all()
    what, dtype = ("image features", features.dtype) if is_encoder else ("subject tokens", tokens.dtype)
    raise NestedAdapterError(
        f"The {'image encoder' if is_encoder else 'adapter'} gave {what} with NaN or infinite values, computed in "
        f"{dtype}. Load the adapter into a pipeline of a wider type, such as torch.bfloat16 or torch.float32; if that "
        "does not help, its weights are damaged."
    )


def _check_shape(image: Image.Image, processor: Any) -> None:
    """Refuse photos that would become huge: resizing scales the shorter side first and crops later."""
    shorter = processor.size.get("shortest_edge") if processor.do_resize else None
    if shorter is None:
        return
    longer = shorter * max(image.size) // min(image.size)
    if shorter * longer > MAX_RESIZED_PIXELS:
        raise SubjectError(
            f"A photo of {image.width} x {image.height} pixels would be resized to {shorter} x {longer} for the image "
            f"encoder, more than {MAX_RESIZED_PIXELS} pixels. Crop it to the part that matters."
        )
