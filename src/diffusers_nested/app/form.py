"""The fields of the page. Needs the extra ``app``, like all modules from here on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
from PIL import Image

from .samples import Sample
from .shots import Compare
from .wish import LAST_SEED, MOST_STEPS, SubjectForm, Wish, subjects_of

SUBJECTS = 3
_FIELDS = 5  # of a subject
_LONGEST = 2000  # characters of a prompt


@dataclass(frozen=True)
class Defaults:
    """What the page begins with.

    Attributes:
        words: The word of each adapter, by the adapter's name.
        steps: Denoising steps.
        guidance: Of classifier-free guidance.
        size: Width and height of a picture, for the mask's canvas.
        samples: Forms to choose from; the page begins with the first.
    """

    words: dict[str, str]
    steps: int
    guidance: float
    size: tuple[int, int]
    samples: Sequence[Sample] = ()


@dataclass(frozen=True)
class Form:
    """The fields.

    Attributes:
        subjects: The fields of all subjects, one after the other.
        over: Of each subject, the button that puts the drawn picture below its mask.
    """

    prompt: Any
    negative_prompt: Any
    scale: Any
    seed: Any
    steps: Any
    guidance: Any
    compare: Any
    maps: Any
    subjects: Sequence[Any]
    over: Sequence[Any]

    def fields(self) -> list[Any]:
        """All fields, in the order that ``read`` expects."""
        settings = [self.scale, self.seed, self.steps, self.guidance, self.compare, self.maps]
        return [self.prompt, self.negative_prompt, *settings, *self.subjects]

    def masks(self) -> list[Any]:
        """The mask of each subject."""
        return [*self.subjects[_FIELDS - 1 :: _FIELDS]]


def read(values: Sequence[Any]) -> tuple[Wish, Compare]:
    """The wish that the fields' values are, and which pictures are asked for.

    Raises:
        NestedAdapterError: A value cannot be used.
    """
    prompt, negative_prompt, scale, seed, steps, guidance, compare, maps, *others = values
    parts = [others[i : i + _FIELDS] for i in range(0, len(others), _FIELDS)]
    forms = [
        SubjectForm([file for file, _ in photos or ()], word or "", adapter or "", share, mask)
        for photos, word, adapter, share, mask in parts
    ]
    settings = (scale, seed, steps, guidance, bool(maps))
    Wish(prompt or "", negative_prompt or "", {}, *settings)  # before any file is read
    return Wish(prompt, negative_prompt or "", subjects_of(forms), *settings), Compare(compare)


def lay_out(defaults: Defaults) -> Form:
    """Put the fields on the page that is being built."""
    first = defaults.samples[0] if defaults.samples else Sample("", "", ())
    prompt = gr.Textbox(
        first.prompt,
        label="Prompt",
        placeholder="a photo of a person on the beach",
        lines=2,
        max_length=_LONGEST,
        elem_id="prompt",
    )
    with gr.Tabs():
        subjects = [_subject(number, defaults, first) for number in range(SUBJECTS)]
    scale = _slider(0, 4, 1, step=0.05, label="Scale λ", info="0 is off, 1 the trained strength, more is more likeness")
    with gr.Accordion("Settings", open=False):
        negative_prompt = gr.Textbox(
            label="Negative prompt", max_length=_LONGEST, placeholder="what the picture should not show"
        )
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LAST_SEED, min_width=100)
            steps = _slider(1, MOST_STEPS, defaults.steps, step=1, label="Steps", min_width=140)
            guidance = _slider(0, 20, defaults.guidance, step=0.1, label="Guidance", min_width=140)
        maps = gr.Checkbox(True, label="Show where each word acts")
    compare = gr.Radio([each.value for each in Compare], value=Compare.NOTHING.value, label="Draw")
    fields = [field for subject, _ in subjects for field in subject]
    over = [button for _, button in subjects]
    return Form(prompt, negative_prompt, scale, seed, steps, guidance, compare, maps, fields, over)


def _slider(*values: Any, **settings: Any) -> Any:
    """A slider whose box may be left empty, which ``read`` then says; gradio's own fails without a word."""
    slider: Any = gr.Slider(*values, **settings)
    within = slider.preprocess
    slider.preprocess = lambda payload: None if payload is None else within(payload)
    return slider


def lay_out_samples(form: Form, defaults: Defaults) -> None:
    """Put buttons on the page that fill the form in."""
    if not defaults.samples:
        return
    choices = gr.Dataset(
        components=[gr.Textbox(visible=False)],
        samples=[[sample.title] for sample in defaults.samples],
        type="index",
        label="Try",
        elem_id="samples",
    )

    def fill(index: int) -> list[Any]:
        sample = defaults.samples[index]
        return [sample.prompt, *(value for number in range(SUBJECTS) for value in _values(sample, number, defaults))]

    choices.click(fill, choices, [form.prompt, *form.subjects], queue=False, api_visibility="private")


def _subject(number: int, defaults: Defaults, first: Sample) -> tuple[list[Any], Any]:
    """A tab with the fields of one subject, and the button below its mask."""
    images, its_word, _, share_value, blank = _values(first, number, defaults)
    with gr.Tab(f"Subject {number + 1}"):
        photos = gr.Gallery(
            images,
            label="Photos of one subject",
            type="filepath",
            sources=["upload", "clipboard"],
            interactive=True,
            columns=3,
            fit_columns=False,
            height=200,
            object_fit="contain",
            elem_id=f"photos-{number + 1}",
        )
        with gr.Row():
            word = gr.Textbox(its_word, label="Their word", min_width=140, elem_id=f"word-{number + 1}")
            adapter = gr.Dropdown(
                [("by the word", ""), *((name, name) for name in defaults.words)],
                value="",
                label="Adapter",
                visible=len(defaults.words) > 1,
                min_width=140,
            )
        share = _slider(0, 1, share_value, step=0.05, label="Blend: first photo to second", visible=False)
        with gr.Accordion("Where: paint a mask", open=False):
            mask = _canvas(defaults.size, blank)
            over = gr.Button("Paint over the drawn picture", size="sm")
    photos.change(_show_blend, photos, share, queue=False, show_progress="hidden", api_visibility="private")
    return [photos, word, adapter, share, mask], over


def _values(sample: Sample, number: int, defaults: Defaults) -> list[Any]:
    """Values for the fields of one subject: photos, word, adapter, share and mask."""
    blank = canvas(Image.new("RGB", defaults.size, "white"))
    if number < len(sample.subjects):
        subject = sample.subjects[number]
        return [[*subject.photos], subject.word, subject.adapter, 0.5, blank]
    words = [*defaults.words.values(), *[""] * SUBJECTS]
    return [None, words[number], "", 0.5, blank]


def _canvas(size: tuple[int, int], blank: Any) -> Any:
    return gr.ImageMask(
        blank,
        label="Nothing painted: everywhere",
        type="numpy",
        sources=(),
        transforms=(),
        brush=gr.Brush(default_size=max(size) // 6, colors=["rgba(79, 70, 229, 0.6)"], color_mode="fixed"),
        canvas_size=size,
        fixed_canvas=True,
        height=330,
    )


def canvas(picture: Image.Image | None) -> dict[str, Any] | None:
    """A picture to paint a mask on, with nothing painted."""
    return None if picture is None else {"background": picture, "layers": [], "composite": picture}


def _show_blend(photos: Sequence[Any] | None) -> Any:
    return gr.update(visible=len(photos or ()) == 2)
