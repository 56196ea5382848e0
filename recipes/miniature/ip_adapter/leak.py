"""Whether a subject with a photo changes the other one in the picture, who has none."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from diffusers_nested.evaluation import Shot
from diffusers_nested.evaluation.metrics import Metric, Scores
from diffusers_nested.miniature import load_recogniser
from diffusers_nested.miniature.metrics import in_order
from diffusers_nested.miniature.recogniser import PERSON_TRAITS, PET_TRAITS, crop_subject

_TRAITS = {"person": PERSON_TRAITS, "pet": PET_TRAITS}


class Leak(Metric):
    """How the half of a subject differs from the plain pipeline's picture of the same noise.

    The column of the metric's name holds the mean absolute difference, from 0 to 1. ``"<name> traits"`` holds the share
    of the subject's traits, such as species and fur, that the recogniser reads otherwise than in the plain picture.

    Args:
        name: Column of the results.
        word: The subject's word; contestants should not give it a photo.
    """

    needs_plain = True

    def __init__(self, name: str, word: str) -> None:
        super().__init__(name)
        self._word = word
        self._recogniser = load_recogniser()

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Compare halves."""
        assert plain is not None  # as needs_plain is set
        sides = [in_order(shot).index(self._word) for shot in shots]
        halves, before = self._halves(pictures, sides), self._halves(plain, sides)
        read, read_before = (self._recogniser.read(each)[1] for each in (halves, before))
        # a half is on black, so half of the pixels are equal
        change = 2 * np.abs(halves / 255.0 - before / 255.0).mean((1, 2, 3))  # (B,)
        traits = [f"{self._word}.{trait}" for trait in _TRAITS[self._word]]
        moved = [np.mean([a[trait] != b[trait] for trait in traits]) for a, b in zip(read, read_before, strict=True)]
        return [{self.name: float(c), f"{self.name} traits": float(m)} for c, m in zip(change, moved, strict=True)]

    @staticmethod
    def _halves(pictures: Sequence[Image.Image], sides: Sequence[int]) -> np.ndarray:
        """(B, 32, 32, 3) in uint8."""
        return np.stack(
            [crop_subject(np.asarray(one.convert("RGB")), side) for one, side in zip(pictures, sides, strict=True)]
        )
