"""The page: fields on the left, pictures on the right, and what the buttons do."""

import html
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from ..errors import NestedAdapterError
from .form import Defaults, Form, canvas, lay_out, lay_out_samples, read
from .maps import Maps
from .shots import Captioned, arranged, shots_of
from .studio import Cancelled, Studio, Visits
from .wording import in_words

KEPT = 3600  # seconds that photos and pictures of visitors stay
_SWEEP = 300  # seconds between two looks at them
_WAITING = 32  # visitors in the queue
_LONGEST_SAID = 100  # characters of a prompt's end in a message
_HEAD = (
    "# A photo becomes a word of your prompt\nDrop photos, name the word of the prompt that they stand for, and draw."
)
CSS = """
footer {display: none !important}
.row-of-pictures .grid-wrap {min-height: 0 !important; height: auto !important}
#maps .mask:not(.active) {opacity: 0 !important}
#series .grid-container {grid-template-columns: repeat(auto-fill, minmax(115px, 1fr)) !important}
"""

Remark = Callable[[str], str]  # prompt -> what to say of it, or ""


def build(studio: Studio, defaults: Defaults, remark: Remark = lambda prompt: "") -> Any:
    """The page, ready to be launched.

    Args:
        studio: Draws the pictures.
        defaults: What the fields begin with.
        remark: What to tell the visitor of a prompt that is drawn all the same.

    Returns:
        gradio's ``Blocks``.
    """
    visits = Visits()
    with gr.Blocks(title="diffusers-nested", analytics_enabled=False, delete_cache=(_SWEEP, KEPT)) as page:
        gr.Markdown(_HEAD)
        with gr.Row():
            with gr.Column(scale=4, min_width=320):
                form = lay_out(defaults)
                with gr.Row():
                    draw = gr.Button("Draw", variant="primary", min_width=100, elem_id="draw")
                    cancel = gr.Button("Cancel", min_width=100, elem_id="cancel")
                lay_out_samples(form, defaults)
            with gr.Column(scale=5, min_width=320):
                outputs = _pictures()
        _connect(page, form, draw, cancel, outputs, _drawer(studio, visits, remark), visits)
    return page.queue(default_concurrency_limit=1, max_size=_WAITING, api_open=False)


def _pictures() -> list[Any]:
    """Where pictures are shown."""
    settings: dict[str, Any] = {"format": "png", "interactive": False, "buttons": ["download", "fullscreen"]}
    with gr.Row():
        plain = gr.Image(label="Prompt alone", min_width=150, elem_id="plain", **settings)
        personal = gr.Image(label="With photos", min_width=150, elem_id="personal", type="pil", **settings)
    maps = gr.AnnotatedImage(
        label="Where each word acts: point at a word",
        format="png",
        visible=False,
        elem_id="maps",
        buttons=[],
        width=400,
    )
    settings |= {"height": "auto", "visible": False, "elem_classes": "row-of-pictures"}
    series = gr.Gallery(label="Series", columns=4, elem_id="series", **settings)
    return [plain, personal, maps, series]


def _annotated(maps: Maps | None) -> Any:
    if maps is None or not maps.of_words:
        return gr.update(value=None, visible=False)
    return gr.update(value=(maps.picture, [(one, word) for word, one in maps.of_words.items()]), visible=True)


def _shown(pictures: Sequence[Captioned]) -> Any:
    return gr.update(value=[*pictures], visible=bool(pictures))


def _connect(page: Any, form: Form, draw: Any, cancel: Any, outputs: list[Any], drawer: Any, visits: Visits) -> None:
    drawing = gr.on(
        [draw.click, form.prompt.submit],
        drawer,
        form.fields(),
        outputs,
        api_name="draw",
        concurrency_limit=1,
        show_progress_on=outputs[:2],
    )

    for button, mask in zip(form.over, form.masks(), strict=True):
        button.click(canvas, outputs[1], mask, queue=False, api_visibility="private")

    def stop(request: gr.Request) -> None:
        gr.Info("Cancelled." if visits.stop(str(request.session_hash)) else "Nothing is being drawn.")

    def leave(request: gr.Request) -> None:
        visits.stop(str(request.session_hash))

    # beside the queue: it must not wait for what it cancels
    cancel.click(stop, cancels=[drawing], concurrency_limit=None, show_progress="hidden", api_visibility="private")
    page.unload(leave)


def _drawer(studio: Studio, visits: Visits, remark: Remark) -> Any:
    """The function behind the button."""

    def draw(request: gr.Request, progress: Any = gr.Progress(), *values: Any) -> Any:  # noqa: B008 gradio fills it in
        names: Sequence[str] = ()
        try:
            wish, compare = read(values)
            names = list(wish.subjects)
            with visits.work(str(request.session_hash)) as stop:
                drawn = studio.draw(wish, shots_of(wish, compare), lambda done, of: progress((done, of)), stop)
        except Cancelled:
            return [gr.skip()] * 4
        except (NestedAdapterError, MemoryError) as error:
            raise gr.Error(html.escape(in_words(error, names), quote=False), 20, print_exception=False) from None
        if lost := studio.unread(wish.prompt):
            said = f"The prompt is too long. Not read: “{shorten(lost, _LONGEST_SAID, placeholder=' …')}”."
            gr.Warning(html.escape(said, quote=False), title="Drawn all the same")
        if said := remark(wish.prompt):
            gr.Warning(html.escape(said, quote=False), title="Drawn all the same")
        pictures = arranged(wish, compare, drawn)
        return pictures.plain, pictures.personal, _annotated(pictures.maps), _shown(pictures.series)

    return draw
