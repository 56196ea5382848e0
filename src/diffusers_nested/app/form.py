"""The fields of the page. Needs the extra ``app``, like all modules from here on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from .shots import Compare
from .wish import LAST_SEED, MOST_STEPS, SubjectForm, Wish, subjects_of

SUBJECTS = 3
_FIELDS = 5  # of a subject


@dataclass(frozen=True)
class Defaults:
    """What the page begins with.

    Attributes:
        words: The word of each adapter, by the adapter's name.
        steps: Denoising steps.
        guidance: Of classifier-free guidance.
        size: Width and height of a picture, for the mask's canvas.
        prompt: A prompt to begin with.
        photos: Photos of the first subject to begin with.
    """

    words: dict[str, str]
    steps: int
    guidance: float
    size: tuple[int, int]
    prompt: str = ""
    photos: Sequence[Any] = ()


@dataclass(frozen=True)
class Form:
    """The fields, in the order in which handlers get their values."""

    prompt: Any
    negative_prompt: Any
    scale: Any
    seed: Any
    steps: Any
    guidance: Any
    compare: Any
    subjects: Sequence[Any]

    def fields(self) -> list[Any]:
        """All fields, in the order that ``read`` expects."""
        own = [self.prompt, self.negative_prompt, self.scale, self.seed, self.steps, self.guidance, self.compare]
        return [*own, *self.subjects]


def read(values: Sequence[Any]) -> tuple[Wish, Compare]:
    """The wish that the fields' values are, and which pictures are asked for.

    Raises:
        NestedAdapterError: A value cannot be used.
    """
    prompt, negative_prompt, scale, seed, steps, guidance, compare, *others = values
    parts = [others[i : i + _FIELDS] for i in range(0, len(others), _FIELDS)]
    forms = [
        SubjectForm([file for file, _ in photos or ()], word or "", adapter or "", share, mask)
        for photos, word, adapter, share, mask in parts
    ]
    settings = (scale, seed, steps, guidance)
    Wish(prompt or "", negative_prompt or "", {}, *settings)  # before any file is read
    return Wish(prompt, negative_prompt or "", subjects_of(forms), *settings), Compare(compare)


def lay_out(defaults: Defaults) -> Form:
    """Put the fields on the page that is being built."""
    prompt = gr.Textbox(
        defaults.prompt, label="Prompt", placeholder="a photo of a person on the beach", lines=2, elem_id="prompt"
    )
    with gr.Tabs():
        subjects = [_subject(number, defaults) for number in range(SUBJECTS)]
    scale = gr.Slider(0, 4, 1, step=0.05, label="Scale λ", info="0 is off, 1 the trained strength; more is more likeness")
    with gr.Accordion("Settings", open=False):
        negative_prompt = gr.Textbox(label="Negative prompt", placeholder="what the picture should not show")
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LAST_SEED, min_width=100)
            steps = gr.Slider(1, MOST_STEPS, defaults.steps, step=1, label="Steps", min_width=140)
            guidance = gr.Slider(0, 20, defaults.guidance, step=0.1, label="Guidance", min_width=140)
    compare = gr.Radio([each.value for each in Compare], value=Compare.NOTHING.value, label="Draw")
    fields = [field for subject in subjects for field in subject]
    return Form(prompt, negative_prompt, scale, seed, steps, guidance, compare, fields)


def _subject(number: int, defaults: Defaults) -> list[Any]:
    """A tab with the fields of one subject."""
    words = [*defaults.words.values(), *[""] * SUBJECTS]
    with gr.Tab(f"Subject {number + 1}"):
        photos = gr.Gallery(
            [*defaults.photos] if number == 0 else None,
            label="Photos of one subject: drop them here",
            type="filepath",
            sources=["upload", "clipboard"],
            interactive=True,
            columns=3,
            height=200,
            object_fit="contain",
            elem_id=f"photos-{number + 1}",
        )
        with gr.Row():
            word = gr.Textbox(words[number], label="Its word in the prompt", min_width=140)
            adapter = gr.Dropdown(
                [("by the word", ""), *((name, name) for name in defaults.words)],
                value="",
                label="Adapter",
                visible=len(defaults.words) > 1,
                min_width=140,
            )
        share = gr.Slider(0, 1, 0.5, step=0.05, label="Blend: from the first photo to the second", visible=False)
        with gr.Accordion("Where in the picture (paint with the brush)", open=False):
            mask = _canvas(defaults.size)
    photos.change(_show_blend, photos, share, queue=False, show_progress="hidden", api_visibility="private")
    return [photos, word, adapter, share, mask]


def _canvas(size: tuple[int, int]) -> Any:
    width, height = size
    return gr.ImageMask(
        label="Nothing painted: everywhere",
        type="numpy",
        sources=(),
        transforms=(),
        brush=gr.Brush(default_size=max(width, height) // 8, colors=["#4f46e5"], color_mode="fixed"),
        canvas_size=(width, height),
        fixed_canvas=True,
        height=340,
    )


def _show_blend(photos: Sequence[Any] | None) -> Any:
    return gr.update(visible=len(photos or ()) == 2)
