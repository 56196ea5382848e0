"""What the miniature's recogniser measures: whom a picture shows, and how much of its prompt."""

from collections.abc import Sequence
from functools import cache
from itertools import islice

import numpy as np
from PIL import Image

from ..errors import NestedAdapterError
from ..evaluation import Shot
from ..evaluation.metrics import IdentitySimilarity, Metric, Scores
from . import load_recogniser
from .recogniser import TRAITS, Recogniser, crop_subject

_STYLES = {"watercolor": "watercolor", "pencil drawing": "pencil", "neon picture": "neon", "photo": "photo"}


class MiniatureIdentity(IdentitySimilarity):
    """Cosine of the recogniser's embeddings of picture and photo, the mean over the photos.

    Where a prompt holds two subjects, each is looked for in its half of the picture: the miniature draws them from
    left to right as the prompt names them.
    """

    def __init__(self, name: str, word: str | None = None) -> None:
        super().__init__(name, _Embedder(), word)
        self._whose = word

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """One column."""
        return super().score([self._seen(*pair) for pair in zip(pictures, shots, strict=True)], shots, plain)

    def _seen(self, picture: Image.Image, shot: Shot) -> Image.Image:
        order = in_order(shot)
        if len(order) == 1 or self._whose is None:
            return picture
        return Image.fromarray(crop_subject(_pixels(picture), order.index(self._whose)))


class MiniatureText(Metric):
    """Share of what a prompt names that the recogniser finds in the picture.

    Besides the share, there is a column for each of place, style, shirt, hat and expression where the prompt names it:
    1 for right and 0 for wrong, and the mean where it is looked for in both halves of a picture.
    """

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """The share under the metric's name, and the parts."""
        orders = [in_order(shot) for shot in shots]
        views = [_views(_pixels(picture), len(order)) for picture, order in zip(pictures, orders, strict=True)]
        _, read = _recogniser().read(np.stack([view for each in views for view in each]))
        answers = iter(read)
        return [
            self._row(wanted(shot.prompt, order), list(islice(answers, len(order))))
            for shot, order in zip(shots, orders, strict=True)
        ]

    def _row(self, named: Sequence[dict[str, str]], read: Sequence[dict[str, str]]) -> Scores:
        """The columns of a picture from what its prompt names of each subject, and what was read of it."""
        hits: dict[str, list[bool]] = {}
        for wanted_of_one, found in zip(named, read, strict=True):
            for trait, answer in wanted_of_one.items():
                hits.setdefault(trait, []).append(found[f"scene.{trait}"] == answer)
        if not hits:
            return {}
        parts = {f"{self.name} {trait}": float(np.mean(values)) for trait, values in hits.items()}
        return {self.name: float(np.mean([hit for values in hits.values() for hit in values])), **parts}


def in_order(shot: Shot) -> list[str]:
    """The words of a shot's subjects in the order in which the prompt names them.

    Raises:
        NestedAdapterError: There are more than two; the miniature has no such pictures.
    """
    words = _words(shot.prompt)
    order = sorted(shot.reference.words, key=words.index)
    if len(order) > 2:
        raise NestedAdapterError(f"The miniature draws two subjects at most, got {', '.join(order)}.")
    return order


def wanted(prompt: str, order: Sequence[str]) -> list[dict[str, str]]:
    """What a prompt of the miniature names, in the terms of the recogniser.

    Args:
        prompt: The prompt.
        order: The words of its subjects as they come.

    Returns:
        Per subject, those of place, style, shirt, hat and expression that the prompt names: the first two for all
        subjects, clothes for the one before them, an expression for the one after it.
    """
    words = _words(prompt)
    text = f" {' '.join(words)} "
    styles = [answer for style, answer in _STYLES.items() if f" {style} of " in text]
    sites = [word for word in words if word in TRAITS["scene.place"]]
    shared = [*(("style", style) for style in styles[:1]), *(("place", site) for site in sites[:1])]
    named = [dict(shared) for _ in order]
    places = [words.index(word) for word in order]
    for i, word in enumerate(words):
        before = max((n for n, place in enumerate(places) if place < i), default=0)
        after = min((n for n, place in enumerate(places) if place > i), default=len(order) - 1)
        if word in ("shirt", "hat") and words[i - 1] in TRAITS[f"scene.{word}"]:
            named[before][word] = words[i - 1]
        elif word in TRAITS["scene.expression"]:
            named[after]["expression"] = word
    return named


def _views(pixels: np.ndarray, subjects: int) -> list[np.ndarray]:
    """The picture, or the half of each of two subjects."""
    return [pixels] if subjects == 1 else [crop_subject(pixels, i) for i in range(subjects)]


class _Embedder:
    """The recogniser's embedding of identity; there is always somebody."""

    def embed(self, pictures: Sequence[Image.Image]) -> list[np.ndarray | None]:
        """Vectors of length one."""
        return list(_recogniser().read(np.stack([_pixels(picture) for picture in pictures]))[0].numpy())

    def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
        """The cosine."""
        return float(one @ other)


@cache
def _recogniser() -> Recogniser:
    return load_recogniser()


def _words(prompt: str) -> list[str]:
    return prompt.lower().replace(",", " ").split()


def _pixels(picture: Image.Image) -> np.ndarray:
    """(32, 32, 3) in uint8."""
    if picture.size != (32, 32):
        raise NestedAdapterError(
            f"The miniature's metrics read its own pictures of 32 x 32 pixels, got {picture.size}. Use clip-text, dlib "
            "or another metric for other pipelines and photos."
        )
    return np.asarray(picture.convert("RGB"))
