"""``diffusers-nested prepare``: a training set from a folder of photos."""

import argparse
import sys
from pathlib import Path

from . import train_data
from .values import number, whole

HELP = "Make a training set of a folder of photos: subjects found and cropped, captions with the subject's word."
_KINDS = {
    "faces": "People: the face, aligned as in FFHQ. Needs the extra 'faces'.",
    "pets": "Pets, found by a segmentation model.",
    "objects": "Any kind of object, found by a segmentation model.",
}
_WORDS = {"faces": "person", "pets": "pet", "objects": "object"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of subjects, each with its arguments."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="faces|pets|objects|shards")
    for kind, says in _KINDS.items():
        _add(kinds.add_parser(kind, help=says, description=says, allow_abbrev=False), kind)
    train_data.add_shards(
        kinds.add_parser("shards", help=train_data.HELP, description=train_data.HELP, allow_abbrev=False)
    )


def _add(parser: argparse.ArgumentParser, kind: str) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of photos; folders in it count, too")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="folder of the training set; the same one goes on where it ended"
    )
    _add_words(parser, kind)
    _add_subjects(parser, kind)
    parser.add_argument("--device", help="of the models, such as cuda (default: CUDA if there is one)")


def _add_words(parser: argparse.ArgumentParser, kind: str) -> None:
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help=".csv or .jsonl with the columns file_name and text (default: photo.txt beside photo.jpg)",
    )
    parser.add_argument(
        "--captioner",
        metavar="MODEL",
        help="folder or downloaded repository of a model that captions photos without a caption (default: none)",
    )
    parser.add_argument(
        *("--subject_token", "--subject-token"),
        metavar="WORD",
        help=f"the adapter's word, which the captions get (default: {_WORDS[kind]})",
    )
    parser.add_argument(
        "--nouns",
        type=Path,
        metavar="FILE",
        help="text file with a noun on each line that the word replaces (default: "
        + ("only the word itself)" if kind == "objects" else "those of the package)"),
    )


def _add_subjects(parser: argparse.ArgumentParser, kind: str) -> None:
    if kind == "faces":
        parser.add_argument("--faces", choices=("largest", "all"), default="largest", help="(default: %(default)s)")
    else:
        parser.add_argument(
            "--segmenter",
            required=True,
            metavar="MODEL",
            help="folder or downloaded repository of a model of transformers that segments images (required)",
        )
        parser.add_argument(
            "--background",
            choices=("white", "keep"),
            default="white",
            help="of input images (default: %(default)s)",
        )
    parser.add_argument(
        *("--min-size", "--min_size"),
        type=whole(1),
        default=128,
        metavar="PIXELS",
        help="least side of the square around a subject (default: %(default)s)",
    )
    parser.add_argument(
        *("--min-sharpness", "--min_sharpness"),
        type=number(0),
        default=10.0,
        metavar="VALUE",
        help="least variance of the crop's Laplacian at 256 x 256 pixels (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and say what became of the photos."""
    if arguments.kind == "shards":
        train_data.run_shards(arguments)
        return
    from ..environment.devices import usable_device
    from ..preparing import PrepareSettings, prepare

    given = {name: value for name, value in vars(arguments).items() if name != "command"}
    if given["device"] is not None:
        given["device"] = usable_device(given["device"])
    done = prepare(PrepareSettings(**given))
    if done.waiting:
        sys.stdout.write(f"{done.waiting} of {done.photos} photos are left to other processes\n")
        return
    sys.stdout.write(f"{done.examples} examples of {done.photos} photos in {arguments.output.resolve()}\n")
    for reason, times in done.rejects.items():
        sys.stdout.write(f"{times} rejected: {reason}\n")
