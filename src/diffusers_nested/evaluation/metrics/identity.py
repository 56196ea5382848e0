"""Whether a picture shows the subject of the photos, according to any recogniser."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from ...errors import NestedAdapterError
from ..references import Reference
from ..shots import Shot
from .base import Metric, Scores


class Recogniser(Protocol):
    """Embeds who is in a picture, and compares embeddings."""

    def embed(self, pictures: Sequence[Image.Image]) -> list[np.ndarray | None]:
        """One vector per picture, or None if nobody is found."""
        ...

    def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
        """Similarity of two embeddings; larger is more similar."""
        ...


class FunctionRecogniser:
    """A recogniser from a function that embeds one picture; it compares embeddings by their cosine.

    Args:
        embed: From an RGB picture to a vector, or None if nobody is found.
    """

    def __init__(self, embed: Callable[[Image.Image], np.ndarray | None]) -> None:
        self._embed = embed

    def embed(self, pictures: Sequence[Image.Image]) -> list[np.ndarray | None]:
        """Embed one picture after the other."""
        return [self._embed(picture) for picture in pictures]

    def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
        """The cosine."""
        return cosine(one, other)


class IdentitySimilarity(Metric):
    """Similarity between the subject of the picture and that of the photos, the mean over the photos.

    Args:
        name: Column of the results.
        recogniser: Embeds and compares subjects.
        word: Whose photos to use if prompts contain several subjects.
        another: Compare with the photos of the next subject instead: the score of a stranger.
    """

    def __init__(self, name: str, recogniser: Recogniser, word: str | None = None, another: bool = False) -> None:
        super().__init__(name)
        self._recogniser = recogniser
        self._word = word
        self._another = another
        self._known: dict[str, list[np.ndarray]] = {}

    def check(self, references: Sequence[Reference]) -> None:
        """Embed all photos.

        Raises:
            NestedAdapterError: A photo shows nobody, or there is no other subject to compare with.
        """
        if self._another and len(references) < 2:
            raise NestedAdapterError(
                f"metrics.{self.name} compares with the next subject's photos, but there is only one subject. Add "
                "one, or leave `another` out."
            )
        for reference in references:
            found = self._recogniser.embed(reference.photos(self._word))
            missing = [str(number) for number, one in enumerate(found, 1) if one is None]
            if missing:
                raise NestedAdapterError(
                    f"metrics.{self.name} finds nobody in photo {', '.join(missing)} of the subject "
                    f"{reference.name!r}. Give photos that it can recognise, or leave the metric out."
                )
            self._known[reference.name] = [one for one in found if one is not None]
        if self._another:
            names = list(self._known)
            self._known = {name: self._known[after] for name, after in zip(names, [*names[1:], names[0]], strict=True)}

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Compute the similarities; None where nobody is found."""
        found = self._recogniser.embed(pictures)
        return [{self.name: self._compared(one, shot)} for one, shot in zip(found, shots, strict=True)]

    def _compared(self, embedding: np.ndarray | None, shot: Shot) -> float | None:
        if embedding is None:
            return None
        known = self._known[shot.reference.name]
        return float(np.mean([self._recogniser.similarity(embedding, photo) for photo in known]))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))
