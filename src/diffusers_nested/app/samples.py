"""What the page knows of the miniature world: forms to begin with, filled in, and words that say nothing to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ..miniature import example
from ..miniature.language import unknown_words


@dataclass(frozen=True)
class SampleSubject:
    """One subject of a sample.

    Attributes:
        photos: Its photos.
        word: Their word.
        adapter: Name of the adapter, or "" to find it by the word.
    """

    photos: Sequence[Image.Image]
    word: str
    adapter: str = ""


@dataclass(frozen=True)
class Sample:
    """A form that is filled in.

    Attributes:
        title: What it shows.
        prompt: Its prompt.
        subjects: Its subjects, at most as many as the page has.
    """

    title: str
    prompt: str
    subjects: Sequence[SampleSubject]


def miniature_samples() -> list[Sample]:
    """What the miniature world can do, in a few forms."""
    mira, otto, miso = (example(name) for name in ("mira", "otto", "miso"))
    person, pet = SampleSubject([mira], "person"), SampleSubject([miso], "pet")
    blend, king = SampleSubject([mira, otto], "person"), SampleSubject([otto], "king", "person")
    return [
        Sample("a person", "a photo of a person on the beach", [person]),
        Sample("a person and a pet", "a watercolor of a person and a pet", [person, pet]),
        Sample("two people blended", "a photo of a sad person in the city", [blend]),
        Sample("another word", "a photo of a king in the forest", [king]),
    ]


def remark_on_words(prompt: str) -> str:
    """What to say of words that the miniature world never learnt; "" if it knows them all."""
    listed = ", ".join(f'"{word}"' for word in unknown_words(prompt))
    return f"The miniature world never learnt {listed}; to it, that says little." if listed else ""
