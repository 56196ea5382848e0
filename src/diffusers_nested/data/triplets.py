"""One example of a training set (arXiv 2501.01407, section 3.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


# Compared by identity: arrays and tensors have no single truth value.
@dataclass(frozen=True, eq=False)
class Triplet:
    """A subject, a caption with the subject's word, and the picture that the two should give.

    Attributes:
        input_image: Shows the subject, such as the aligned crop of a face. A path, a PIL image, an array (H, W, C) or
            a tensor (C, H, W). A path is opened only when the image is needed.
        text: Caption of the target; contains the adapter's ``subject_token``.
        target_image: What is to be generated, in the same forms.
    """

    input_image: Path | Any
    text: str
    target_image: Path | Any


class Triplets(Protocol):
    """A training set: a list of triplets, or a ``Dataset`` that returns them.

    Training goes through all captions once before it starts, so ``__getitem__`` should be cheap: hand out paths
    rather than opened images.
    """

    def __len__(self) -> int:
        """Number of triplets."""
        ...

    def __getitem__(self, index: int, /) -> Triplet:
        """One triplet, the same at every call."""
        ...


def each(triplets: Triplets) -> Iterator[Triplet]:
    """All triplets in order; unlike ``iter``, it needs no IndexError at the end."""
    return (triplets[i] for i in range(len(triplets)))
