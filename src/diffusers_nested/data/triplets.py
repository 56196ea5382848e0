"""One example of a training set (arXiv 2501.01407, section 3.3)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# The photo of each subject by its word; None stands for the adapter's word.
Photos = dict[str | None, Any]
Words = tuple[str | None, ...]


# Compared by identity: arrays and tensors have no single truth value.
@dataclass(frozen=True, eq=False)
class Triplet:
    """A photo of a subject, a caption with the subject's word, and the picture that the two should produce.

    Attributes:
        input_image: Shows the subject, for example as an aligned crop of the face. A path, a PIL image, an array
            (H, W, C) or a tensor (C, H, W). A path is opened only when the image is needed. Of several subjects, a dict
            of word -> photo, as in a call of a pipeline.
        text: Caption of the target, with the adapter's ``subject_token``, or the words of the subjects.
        target_image: The picture to generate, in the forms of a photo.
    """

    input_image: Path | Mapping[str, Any] | Any
    text: str
    target_image: Path | Any

    @property
    def photos(self) -> Photos:
        """The photo of each subject by its word, in order; of a single one without a word, by None."""
        if isinstance(self.input_image, Mapping):
            return {**self.input_image}
        return {} if self.input_image is None else {None: self.input_image}


class Triplets(Protocol):
    """A training set: a list of triplets, or a ``Dataset`` that returns them.

    Training reads all captions before it starts, so ``__getitem__`` should be cheap: return paths rather than opened
    images.
    """

    def __len__(self) -> int:
        """Number of triplets."""
        ...

    def __getitem__(self, index: int, /) -> Triplet:
        """One triplet, the same every time."""
        ...


def each(triplets: Triplets) -> Iterator[Triplet]:
    """All triplets in order; unlike ``iter``, without relying on an IndexError at the end."""
    return (triplets[i] for i in range(len(triplets)))
