"""Examples, raw and as the training step needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data import Photos, Positions, Triplets, Words, frame_of, load_image, to_pixels
from ..errors import NestedAdapterError
from .finite import first_not_finite
from .frozen import FrozenModels


@dataclass(frozen=True, eq=False)
class Samples:
    """B encoded examples, with M subjects: those of the first example, then those of the second, and so on.

    Attributes:
        latents: Of the targets, (B, C, r, r).
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
        return tuple(len(each) for each in self.words)

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
    """

    def __init__(self, frozen: FrozenModels, positions: Positions, resolution: int) -> None:
        self.frozen = frozen
        self.resolution = resolution
        self._positions = positions

    def encode(self, pixels: Tensor, captions: Sequence[str], photos: Sequence[Photos], frames: Tensor) -> Samples:
        """Encode targets (B, 3, R, R), captions and the photos of the subjects; the frames are (B, 6)."""
        features = self.frozen.features([photo for each in photos for photo in each.values()]).float()
        embeds, pooled = self.encode_captions(captions)
        placed = [(caption, word) for caption, each in zip(captions, photos, strict=True) for word in each]
        positions = self.positions(placed, embeds.shape[1]).to(embeds.device)
        words, frames = tuple(tuple(each) for each in photos), frames.float().to(embeds.device)
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


# Target pixels (3, R, R), caption, photos of the subjects, and frame of the target (6,).
Raw = tuple[Tensor, str, Photos, Tensor]


class RawExamples(Dataset[Raw]):
    """Triplets with their images opened."""

    def __init__(self, triplets: Triplets, resolution: int) -> None:
        self._triplets = triplets
        self._resolution = resolution

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self._triplets)

    def __getitem__(self, index: int, /) -> Raw:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One triplet, opened."""
        triplet = self._triplets[index]
        target = load_image(triplet.target_image)
        return (
            to_pixels(target, self._resolution),
            triplet.text,
            {word: load_image(photo) for word, photo in triplet.photos.items()},
            frame_of(target, self._resolution),
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
    """Examples as a batch: stacked pixels (B, 3, R, R), captions, photos, stacked frames (B, 6)."""
    pixels, captions, photos, frames = zip(*examples, strict=True)
    return torch.stack(pixels), list(captions), list(photos), torch.stack(frames)
