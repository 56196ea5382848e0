"""Examples, raw and as the training step needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data import (
    Photos,
    Positions,
    Size,
    Triplets,
    Words,
    each,
    frame_of,
    load_image,
    nearest_size,
    size_of,
    to_pixels,
)
from ..errors import NestedAdapterError
from .finite import first_not_finite
from .frozen import FrozenModels


@dataclass(frozen=True, eq=False)
class Samples:
    """B encoded examples, with M subjects: those of the first example, then those of the second, and so on.

    Attributes:
        latents: Of the targets, (B, C, h, w).
        prompt_embeds: (B, T, D).
        pooled: (B, P); P is 0 where the UNet reads none.
        positions: (M, T), 1 at the subject's word and 0 elsewhere.
        features: Of the subjects' photos, (M, L, F).
        frames: What SDXL is told of the targets, (B, 6); see ``frame_of``.
        words: Of each example, the words of its subjects; None stands for the adapter's.
    """

    latents: Tensor
    prompt_embeds: Tensor
    pooled: Tensor
    positions: Tensor
    features: Tensor
    frames: Tensor
    words: tuple[Words, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many subjects each example has."""
        return tuple(len(one) for one in self.words)

    def of_subjects(self, examples: Tensor) -> Tensor:
        """A value of each example, (B, …), for each of its subjects: (M, …)."""
        if set(self.counts) == {1}:
            return examples
        owners = [example for example, count in enumerate(self.counts) for _ in range(count)]
        return examples.index_select(0, torch.tensor(owners, device=examples.device))


class SampleEncoder:
    """Encodes raw examples.

    Args:
        frozen: The models.
        positions: Where the subjects' words stand in the captions.
        resolution: Side of the targets.
        buckets: Sizes of the targets, each of which takes the one that is nearest to its form; none for squares.
    """

    def __init__(
        self, frozen: FrozenModels, positions: Positions, resolution: int, buckets: Sequence[Size] = ()
    ) -> None:
        self.frozen = frozen
        self._sizes = list(buckets) or [(resolution, resolution)]
        self._positions = positions

    def raw(self, triplets: Triplets) -> "RawExamples":
        """Examples at the sizes that they are encoded at."""
        if len(self._sizes) == 1:
            return RawExamples(triplets, self._sizes * len(triplets))
        return RawExamples(triplets, [nearest_size(self._sizes, *size_of(one.target_image)) for one in each(triplets)])

    def encode(self, pixels: Tensor, captions: Sequence[str], photos: Sequence[Photos], frames: Tensor) -> Samples:
        """Encode targets (B, 3, H, W), captions and the photos of the subjects; the frames are (B, 6)."""
        features = self.frozen.features([photo for one in photos for photo in one.values()]).float()
        embeds, pooled = self.encode_captions(captions)
        placed = [(caption, word) for caption, one in zip(captions, photos, strict=True) for word in one]
        positions = self.positions(placed, embeds.shape[1]).to(embeds.device)
        words, frames = tuple(tuple(one) for one in photos), frames.float().to(embeds.device)
        return Samples(self.frozen.latents(pixels), embeds, pooled, positions, features, frames, words)

    def encode_captions(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (B, T, D) and (B, P) of captions."""
        embeds, pooled = self.frozen.prompts(captions)
        return embeds.float(), pooled.float()

    def positions(self, placed: Sequence[tuple[str, str | None]], length: int) -> Tensor:
        """The positions (M, T) of subjects, given caption and word of each, and the length T of a prompt."""
        positions = torch.zeros(len(placed), length)
        for row, subject in enumerate(placed):
            positions[row, list(self._positions[subject])] = 1
        return positions


# Target pixels (3, H, W), caption, photos of the subjects, and frame of the target (6,).
Raw = tuple[Tensor, str, Photos, Tensor]


class RawExamples(Dataset[Raw]):
    """Triplets with their images opened.

    Args:
        triplets: The triplets.
        sizes: Height and width of each target.
    """

    def __init__(self, triplets: Triplets, sizes: Sequence[Size]) -> None:
        self.triplets = triplets
        self.sizes = sizes

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self.triplets)

    def __getitem__(self, index: int, /) -> Raw:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One triplet, opened."""
        triplet, size = self.triplets[index], self.sizes[index]
        target = load_image(triplet.target_image)
        return (
            to_pixels(target, size),
            triplet.text,
            {word: load_image(photo) for word, photo in triplet.photos.items()},
            frame_of(target, size),
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


def collate(examples: Sequence[Raw]) -> tuple[Tensor, list[str], list[Photos], Tensor]:
    """Examples as a batch: stacked pixels (B, 3, H, W), captions, photos, stacked frames (B, 6)."""
    pixels, captions, photos, frames = zip(*examples, strict=True)
    return torch.stack(pixels), list(captions), list(photos), torch.stack(frames)
