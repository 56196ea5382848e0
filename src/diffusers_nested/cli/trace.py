"""``diffusers-nested trace``: what happens inside a call, as pictures and numbers."""

import argparse
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NestedAdapterError
from .calls import add_call_flags, draw, prepared

if TYPE_CHECKING:
    from PIL import Image

    from ..tracing import Trace

HELP = "Show where a picture looks for the words of its prompt, and what it reads of the photos, as pictures."
OUTPUT = Path("trace")
WORDS = 11  # by default on a sheet, beside the picture
_LARGE = 100_000  # bytes of a picture's file, from which on 256 colours do
_SMALL = frozenset(["a", "an", "the", "of", "on", "in", "at", "to", "and", "or", "with", "by", "for", "from"])

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_call_flags(parser)
    parser.add_argument(
        "--show",
        action="append",
        default=[],
        metavar="WORD",
        help="a word of the prompt to map; may be repeated (default: all but the small ones)",
    )
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        type=_point,
        metavar="X,Y",
        help="a point of the picture, in pixels from the top left, to follow to the photo; may be repeated (default: "
        "three where the picture looks for the subject's word)",
    )
    parser.add_argument(
        "--layers", action="append", metavar="PATH", help='layers of the UNet, such as "up_blocks" (default: all)'
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder to write (default: {OUTPUT})")
    parser.add_argument("--overwrite", action="store_true", help=f"also replace files in folders other than {OUTPUT}")


def run(arguments: argparse.Namespace) -> None:
    """Check what can be checked without models, call the pipeline, and write what happened inside."""
    folder = _checked_folder(arguments.output, arguments.overwrite)
    words = _words(arguments.show, arguments.prompt)
    pipeline, images = prepared(arguments)
    from ..tracing import trace

    with trace(pipeline, layers=arguments.layers) as inside:
        (picture,) = draw(pipeline, arguments, images)
    subjects = [one["word"] for one in inside.numbers()["subjects"]]
    sheets = {"picture": _enlarged(picture), **dict(_sheets(inside, words, subjects, arguments.at))}
    files = {f"{name}.png": _png(sheet) for name, sheet in sheets.items()}
    files["numbers.json"] = (json.dumps(inside.numbers(), indent=1, ensure_ascii=False) + "\n").encode()
    _write(folder, files)


def _sheets(
    inside: "Trace", words: Sequence[str], subjects: Sequence[str], points: Sequence[tuple[float, float]]
) -> Iterator[tuple[str, "Image.Image"]]:
    """Names and pictures; those that a subject's mechanism or encoder cannot give are named in the log."""
    from ..tracing import follow_sheet, value_sheet, word_sheet

    yield "words", word_sheet(inside, words)
    for number, end in enumerate(_endings(subjects)):
        made: dict[str, Callable[[], Image.Image]] = {
            "values": lambda number=number: value_sheet(inside, number),
            "follow": lambda number=number: follow_sheet(inside, points, number),
            "queries": lambda number=number: inside.queries(subject=number).sheet(),
        }
        for name, make in made.items():
            try:
                yield f"{name}{end}", make()
            except NestedAdapterError as error:
                if points and name == "follow":  # which may be outside
                    raise
                logger.info("no %s%s.png: %s", name, end, error)


def _words(shown: Sequence[str], prompt: str) -> list[str]:
    """The words to show.

    Raises:
        NestedAdapterError: One is not in the prompt.
    """
    for word in shown:
        if not word.strip() or not re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", prompt, re.IGNORECASE):
            raise NestedAdapterError(f"--show {word!r} is not in the prompt {prompt!r}. Name a word of it.")
    found = dict.fromkeys(word.lower() for word in re.findall(r"[^\W_]+", prompt))
    return list(shown) or [word for word in found if word not in _SMALL][:WORDS] or list(found)[:WORDS]


def _checked_folder(folder: Path, overwrite: bool) -> Path:
    """The folder, in which nothing will be replaced by accident.

    Raises:
        NestedAdapterError: It cannot be written, or has files of an earlier trace.
    """
    if folder.exists() and not folder.is_dir():
        raise NestedAdapterError(f"--output {folder} is a file. Name a folder, which may be new.")
    above = folder if folder.is_dir() else folder.absolute().parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise NestedAdapterError(f"--output {folder}: the folder {above} does not exist or is not writable.")
    if (folder / "numbers.json").exists() and folder != OUTPUT and not overwrite:
        raise NestedAdapterError(f"{folder} has files of another trace. Name another --output, or add --overwrite.")
    return folder


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        sys.stdout.write(f"{(folder / name).resolve()}\n")


def _png(sheet: "Image.Image") -> bytes:
    from PIL import Image

    for few in (False, True):
        file = io.BytesIO()
        if few:
            sheet = sheet.quantize(palette=sheet.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
        sheet.save(file, "PNG", optimize=True)
        if file.tell() <= _LARGE:
            break
    return file.getvalue()


def _enlarged(picture: "Image.Image") -> "Image.Image":
    from ..tracing.pictures import enlarged

    return enlarged(picture)


def _endings(words: Sequence[str]) -> list[str]:
    """What the names of the subjects' files end in: nothing for a single subject."""
    return ["-" + (re.sub(r"\W+", "-", word).strip("-") or "subject") for word in words] if len(words) > 1 else [""]


def _point(text: str) -> tuple[float, float]:
    found: Any = re.fullmatch(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected X,Y in pixels, such as 16,10, got {text!r}")
    return float(found[1]), float(found[2])
