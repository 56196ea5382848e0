"""The subjects of a comparison and their photos."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from ..data import load_image
from ..errors import NestedAdapterError


@dataclass(frozen=True, eq=False)
class Reference:
    """One subject of a comparison, or several who appear together.

    Attributes:
        name: Unique among the subjects; part of the noise's seed and of file names.
        images: Word of the prompts -> photos of its subject, as paths or images. Paths are opened when the photos are
            needed.
    """

    name: str
    images: Mapping[str, Sequence[Any]]

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a prompt must contain."""
        return tuple(self.images)

    def photos(self, word: str | None = None) -> list[Image.Image]:
        """The photos of a word, by default of the only one, in RGB.

        Raises:
            NestedAdapterError: No word is given although there are several, there is no such word, or a photo cannot
                be read.
        """
        if word is None and len(self.images) > 1:
            raise NestedAdapterError(
                f"The subject {self.name!r} has photos for the words {', '.join(self.words)}. Choose one of them with "
                "`word`."
            )
        word = self.words[0] if word is None else word
        if word not in self.images:
            raise NestedAdapterError(
                f"The subject {self.name!r} has no photos for the word {word!r}, only for {', '.join(self.words)}."
            )
        return [load_image(image) for image in self.images[word]]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of words and pixels; reads every photo."""
        digest = hashlib.blake2b(digest_size=12)
        for word in self.images:
            for photo in self.photos(word):
                digest.update(f"{word} {photo.size} ".encode() + photo.tobytes())
        return digest.hexdigest()
