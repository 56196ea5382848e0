"""What the miniature's recogniser measures: whom a picture shows, and how much of its prompt."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice

import numpy as np
from PIL import Image

from ..errors import NestedAdapterError
from ..evaluation import Reference, Shot
from ..evaluation.metrics import IdentitySimilarity, Metric, Scores
from . import load_recogniser
from .prompts import place_of, wanted
from .recogniser import PERSON_TRAITS, PET_TRAITS, Recogniser, crop_subject

_TRAITS = {"person": PERSON_TRAITS, "pet": PET_TRAITS}


class MiniatureIdentity(IdentitySimilarity):
    """Cosine of the recogniser's embeddings of picture and photo, the mean over the photos.

    Where a prompt holds two subjects, each is looked for in its half of the picture: the miniature draws them from
    left to right as the prompt names them.
    """

    def __init__(self, name: str, word: str | None = None, another: bool = False) -> None:
        super().__init__(name, _Embedder(), word, another)
        self._whose = word

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """One column."""
        return super().score(_views(pictures, shots, self._whose), shots, plain)


class MiniatureTraits(Metric):
    """Share of the traits in the photo, such as hair and glasses, that the recogniser reads in the picture, too.

    The column of the metric's name holds the share, further ones the single traits: 1 for the same answer, 0 for
    another, the mean over the photos.

    Args:
        name: Column of the results.
        word: Whose photos, where prompts hold several subjects.
    """

    def __init__(self, name: str, word: str | None = None) -> None:
        super().__init__(name)
        self._word = word
        self._known: dict[str, list[dict[str, str]]] = {}

    def check(self, references: Sequence[Reference]) -> None:
        """Read all photos."""
        self._known = {one.name: _read(one.photos(self._word)) for one in references}

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """The share under the metric's name, and a column per trait."""
        found = _read(_views(pictures, shots, self._word))
        return [self._row(*pair) for pair in zip(found, shots, strict=True)]

    def _row(self, answers: Mapping[str, str], shot: Shot) -> Scores:
        photos = self._known[shot.reference.name]
        kind = photos[0]["kind"]
        hits = {
            trait: float(np.mean([answers[f"{kind}.{trait}"] == photo[f"{kind}.{trait}"] for photo in photos]))
            for trait in _TRAITS[kind]
        }
        return {self.name: float(np.mean(list(hits.values()))), **_columns(self.name, hits)}


class MiniatureText(Metric):
    """Share of what a prompt names that the recogniser finds in the picture.

    The column of the metric's name holds the share, further ones place, style, shirt, hat and expression where the
    prompt names them: 1 for right, 0 for wrong, the mean over both halves of a picture of two subjects.
    """

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """The share under the metric's name, and a column per part."""
        orders = [in_order(shot) for shot in shots]
        views = [view for picture, order in zip(pictures, orders, strict=True) for view in _halves(picture, order)]
        answers = iter(_read(views))
        return [
            self._row(wanted(shot.prompt, order), list(islice(answers, len(order))))
            for shot, order in zip(shots, orders, strict=True)
        ]

    def _row(self, named: Sequence[Mapping[str, str]], read: Sequence[Mapping[str, str]]) -> Scores:
        """The columns of a picture from what its prompt names of each subject, and what was read of it."""
        hits: dict[str, list[bool]] = {}
        for wanted_of_one, found in zip(named, read, strict=True):
            for trait, answer in wanted_of_one.items():
                hits.setdefault(trait, []).append(found[f"scene.{trait}"] == answer)
        if not hits:
            return {}
        parts = {trait: float(np.mean(values)) for trait, values in hits.items()}
        share = float(np.mean([hit for values in hits.values() for hit in values]))
        return {self.name: share, **_columns(self.name, parts)}


def in_order(shot: Shot) -> list[str]:
    """The words of a shot's subjects in the order in which the prompt names them.

    Raises:
        NestedAdapterError: There are more than two, of which the miniature has no pictures, or the prompt lacks one.
    """
    order = sorted(shot.reference.words, key=lambda word: place_of(shot.prompt, word))
    if len(order) > 2:
        raise NestedAdapterError(f"The miniature draws at most two subjects, got {', '.join(order)}.")
    return order


def _columns(name: str, parts: Mapping[str, float]) -> dict[str, float]:
    return {f"{name} {part.replace('_', ' ')}": value for part, value in parts.items()}


def _halves(picture: Image.Image, order: Sequence[str]) -> list[Image.Image]:
    """The picture, or for two subjects the half of each."""
    if len(order) == 1:
        return [picture]
    return [Image.fromarray(crop_subject(_pixels(picture), i)) for i in range(len(order))]


def _views(pictures: Sequence[Image.Image], shots: Sequence[Shot], word: str | None) -> list[Image.Image]:
    """Where to look for the subject of a word: the whole picture, or its half of it."""
    orders = [in_order(shot) for shot in shots]
    return [
        picture if word is None else _halves(picture, order)[order.index(word)]
        for picture, order in zip(pictures, orders, strict=True)
    ]


class _Embedder:
    """The recogniser's embedding of identity; there is always somebody."""

    def embed(self, pictures: Sequence[Image.Image]) -> list[np.ndarray | None]:
        """Vectors of length one."""
        return list(_recogniser().read(_stacked(pictures))[0].numpy())

    def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
        """The cosine."""
        return float(one @ other)


def _read(pictures: Sequence[Image.Image]) -> list[dict[str, str]]:
    """The recogniser's answers."""
    return _recogniser().read(_stacked(pictures))[1]


@cache
def _recogniser() -> Recogniser:
    return load_recogniser()


def _stacked(pictures: Sequence[Image.Image]) -> np.ndarray:
    """(B, 32, 32, 3) in uint8."""
    return np.stack([_pixels(picture) for picture in pictures])


def _pixels(picture: Image.Image) -> np.ndarray:
    """(32, 32, 3) in uint8."""
    if picture.size != (32, 32):
        raise NestedAdapterError(
            f"The miniature's metrics read pictures of 32 x 32 pixels, as the miniature makes them, got "
            f"{picture.size}. Use clip-text, dlib or another metric for other pipelines and photos."
        )
    return np.asarray(picture.convert("RGB"))
