"""Several vision towers that an adapter reads together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import NestedAdapterError
from .encoder import ImageEncoder
from .kinds import LAST


class ImageEncoders:
    """Several vision towers whose features an adapter reads as one sequence.

    Args:
        parts: The towers in the order in which the adapter reads them, two or more.

    Raises:
        NestedAdapterError: There are fewer.
    """

    def __init__(self, parts: Sequence[ImageEncoder]) -> None:
        self.parts = tuple(parts)
        if len(self.parts) < 2:
            raise NestedAdapterError(f"{len(self.parts)} vision towers, expected several. Use an ImageEncoder for one.")

    @property
    def feature_dim(self) -> list[int]:
        """The width of the features of each tower's last layer."""
        return self.width_of(LAST)

    def width_of(self, features: str | Sequence[str]) -> list[int]:
        """The width of these features of each tower."""
        return [part.width_of(one) for part, one in self._with(features)]

    def count_of(self, features: str | Sequence[str]) -> list[int]:
        """The number of these features of an image that each tower gives."""
        return [part.count_of(one) for part, one in self._with(features)]

    def adapter_settings(self, features: str | Sequence[str] = LAST) -> dict[str, Any]:
        """Settings of a new adapter that reads these features, for ``NestedAdapter.from_unet``; see ``ImageEncoder``.

        Args:
            features: Which ones, of all towers or a list with those of each.
        """
        chosen = [one for _, one in self._with(features)]
        return {
            "image_feature_dim": self.width_of(chosen),
            "image_feature_count": self.count_of(chosen),
            "image_encoder_type": [part.kind for part in self.parts],
            **({} if set(chosen) == {LAST} else {"image_features": chosen}),
        }

    def __call__(self, images: Sequence[Any], features: str | Sequence[str] = LAST) -> Tensor:
        """Image features (B, L, D) of all towers, one tower after another; see ``joined``.

        Args:
            images: As for an ``ImageEncoder``.
            features: Which ones, of all towers or a list with those of each.

        Raises:
            SubjectError: As for an ``ImageEncoder``.
        """
        return read_images(self, images, features)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the towers where an adapter in this folder has them: ``image_encoder/``, ``image_encoder_2/`` and so on.

        Args:
            folder: The adapter's folder.
        """
        for number, part in enumerate(self.parts, 1):
            part.save_pretrained(folder, number)

    def _with(self, features: str | Sequence[str]) -> list[tuple[ImageEncoder, str]]:
        return list(zip(self.parts, each_of(features, len(self.parts)), strict=True))


def joined(features: Sequence[Tensor]) -> Tensor:
    """Features of several towers as one sequence, (B, L₁ + L₂ + …, max D); narrow ones are padded with zeros."""
    if len(features) == 1:
        return features[0]
    width = max(one.shape[-1] for one in features)
    return torch.cat([F.pad(one, (0, width - one.shape[-1])) for one in features], dim=1)


def read_images(encoder: ImageEncoder | ImageEncoders, images: Sequence[Any], features: str | Sequence[str]) -> Tensor:
    """Features of images (B, L, D), of one tower or several; see ``ImageEncoders``."""
    chosen = each_of(features, len(encoder.parts))
    return joined([part(images, one) for part, one in zip(encoder.parts, chosen, strict=True)])


def together(parts: Sequence[ImageEncoder]) -> ImageEncoder | ImageEncoders:
    """One or several towers as what an adapter reads."""
    return parts[0] if len(parts) == 1 else ImageEncoders(parts)


def each_of(value: Any, count: int) -> list[Any]:
    """A value for each tower, from one for all or a list with one for each.

    Raises:
        NestedAdapterError: The list has another length.
    """
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise NestedAdapterError(f"{count} vision towers, but {len(values)} values in {values}. Give one for each.")
    return values
