"""Examples, raw and as the training step needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data import Triplets, load_image, to_pixels
from ..errors import NestedAdapterError
from .finite import first_not_finite
from .frozen import FrozenModels


@dataclass(frozen=True, eq=False)
class Samples:
    """B encoded examples.

    Attributes:
        latents: Of the targets, (B, C, r, r).
        prompt_embeds: (B, T, D).
        pooled: (B, P); P is 0 where the UNet reads none.
        positions: (B, T), 1 at the subject's word and 0 elsewhere.
        features: Of the input images, (B, L, F).
    """

    latents: Tensor
    prompt_embeds: Tensor
    pooled: Tensor
    positions: Tensor
    features: Tensor


class SampleEncoder:
    """Encodes raw examples.

    Args:
        frozen: The models.
        positions: Caption -> positions of the subject's word.
        resolution: Side of the targets.
    """

    def __init__(self, frozen: FrozenModels, positions: dict[str, tuple[int, ...]], resolution: int) -> None:
        self.frozen = frozen
        self.resolution = resolution
        self._positions = positions

    def encode(self, pixels: Tensor, captions: Sequence[str], images: Sequence[Any]) -> Samples:
        """Encode targets (B, 3, R, R), captions and input images."""
        features = self.frozen.features(images).float()
        return Samples(self.frozen.latents(pixels), *self.encode_captions(captions), features)

    def encode_captions(self, captions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, T, D) and (B, P) of captions, and the positions (B, T) of the subject's word."""
        embeds, pooled = (x.float() for x in self.frozen.prompts(captions))
        positions = torch.zeros(embeds.shape[:2])
        for row, caption in enumerate(captions):
            positions[row, list(self._positions[caption])] = 1
        return embeds, pooled, positions.to(embeds.device)


class RawExamples(Dataset[tuple[Tensor, str, Any]]):
    """Triplets with their images opened: (target pixels, caption, input image)."""

    def __init__(self, triplets: Triplets, resolution: int) -> None:
        self._triplets = triplets
        self._resolution = resolution

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self._triplets)

    def __getitem__(self, index: int, /) -> tuple[Tensor, str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One triplet, opened."""
        triplet = self._triplets[index]
        return (
            to_pixels(triplet.target_image, self._resolution),
            triplet.text,
            load_image(triplet.input_image),
        )


def check_finite(tensors: Mapping[str, Tensor], examples: Sequence[int]) -> None:
    """Raise if a frozen model turned these examples into NaN or infinite values.

    Raises:
        NestedAdapterError: Names the tensor and the examples.
    """
    name = first_not_finite(dict(tensors))
    if name is not None:
        shown = ", ".join(map(str, examples[:8])) + (" …" if len(examples) > 8 else "")
        raise NestedAdapterError(
            f"The {name} of triplets {shown} hold NaN or infinite values: a model or a picture is damaged, or the "
            "numbers are too large for fp16. Check these, or use mixed_precision='bf16' without cache_features."
        )


def collate(examples: Sequence[tuple[Tensor, str, Any]]) -> tuple[Tensor, list[str], list[Any]]:
    """Examples as a batch: stacked pixels (B, 3, R, R), captions, input images."""
    pixels, captions, images = zip(*examples, strict=True)
    return torch.stack(pixels), list(captions), list(images)
