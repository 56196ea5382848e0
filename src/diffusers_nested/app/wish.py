"""What somebody filled in, checked and turned into subjects and keywords of a pipeline's call."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import NestedAdapterError, SubjectError
from ..images import read_photo, to_pil
from ..subjects import Subject
from .masks import painted

MOST_STEPS = 200
LAST_SEED = 2**53 - 1  # browsers count no further
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, eq=False)
class SubjectForm:
    """The fields of one subject.

    Attributes:
        photos: Files with its photos.
        word: The word of the prompt that they stand for.
        adapter: Name of the adapter, or "" to find it by the word.
        share: Of the second of two photos, from 0 to 1.
        mask: What was painted, as gradio's ``ImageMask`` gives it.
    """

    photos: Sequence[str] = ()
    word: str = ""
    adapter: str = ""
    share: float = 0.5
    mask: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Wish:
    """Everything that a picture follows from.

    Attributes:
        prompt: The prompt.
        negative_prompt: What the picture should not show; "" for nothing.
        subjects: The subjects, by what messages call them.
        scale: How strongly they act.
        seed: Of the noise.
        num_inference_steps: Denoising steps.
        guidance_scale: Of classifier-free guidance.
        maps: Whether to show where the subjects' words act.

    Raises:
        NestedAdapterError: A value cannot be used.
    """

    prompt: str
    negative_prompt: str = ""
    subjects: Mapping[str, Subject] = field(default_factory=dict)
    scale: float = 1.0
    seed: int = 0
    num_inference_steps: int = 20
    guidance_scale: float = 4.0
    maps: bool = False

    def __post_init__(self) -> None:
        """Look at every value."""
        if not self.prompt.strip():
            raise NestedAdapterError("The prompt is empty. Say what the picture should show.")
        _check("The scale", self.scale, 0, _LARGEST)
        _check("The guidance scale", self.guidance_scale, 0, _LARGEST)
        _check("The seed", self.seed, 0, LAST_SEED, whole=True)
        _check("The number of steps", self.num_inference_steps, 1, MOST_STEPS, whole=True)

    def keywords(self, seed: int, scale: float | None) -> dict[str, Any]:
        """Keywords of the pipeline's call for one picture.

        Args:
            seed: Of the noise.
            scale: How strongly subjects act; None for the plain prompt, without them.
        """
        subjects = [] if scale is None else [replace(subject, scale=scale) for subject in self.subjects.values()]
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt.strip() or None,
            "num_inference_steps": int(self.num_inference_steps),
            "guidance_scale": self.guidance_scale,
            "generator": torch.Generator().manual_seed(seed),
            **({"nested_adapter_image": subjects} if subjects else {}),
        }


def subjects_of(forms: Sequence[SubjectForm]) -> dict[str, Subject]:
    """The subjects that have photos, by what messages call them: ``"Subject 2"``.

    Raises:
        SubjectError: One has no word, or a file cannot be read as a picture.
    """
    names = {f"Subject {number}": form for number, form in enumerate(forms, 1) if form.photos}
    return {name: _subject(form, name) for name, form in names.items()}


def _subject(form: SubjectForm, name: str) -> Subject:
    if not form.word.strip():
        raise SubjectError(f"{name} has photos but no word. Write the word of the prompt that they stand for.")
    images = []
    for number, file in enumerate(form.photos, 1):
        photo = f"Photo {number} of {name}"
        images.append(to_pil(read_photo(file, photo), photo))
    _check(f"The blend of {name}", form.share, 0, 1)
    return Subject(
        images,
        token=form.word.strip(),
        adapter_name=form.adapter or None,
        image_weights=[1 - form.share, form.share] if len(images) == 2 else None,
        mask=painted(form.mask),
    )


def _check(what: str, value: Any, least: float, most: float, whole: bool = False) -> None:
    bounds = f"of at least {least:g}" if most == _LARGEST else f"from {least:g} to {most:g}"
    expected = f"a {'whole ' if whole else ''}number {bounds}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most or (whole and value != int(value)):
        raise NestedAdapterError(f"{what} is {'empty' if value is None else value}, expected {expected}. Change it.")
