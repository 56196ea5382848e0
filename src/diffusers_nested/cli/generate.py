"""``diffusers-nested generate``: your own prompt and photos, in any supported pipeline."""

import argparse
from pathlib import Path

from .calls import add_call_flags, draw, prepared
from .pictures import enlarged, picture_files, write_pictures
from .values import whole

HELP = "Generate pictures of the subjects of some photos; in the bundled miniature world unless --pipeline is given."
OUTPUT = Path("result.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_call_flags(parser)
    parser.add_argument("--num-images", type=whole(1), default=1, help="pictures of the prompt (default: 1)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"file to write (default: {OUTPUT})")
    parser.add_argument("--overwrite", action="store_true", help=f"also replace files other than {OUTPUT}")


def run(arguments: argparse.Namespace) -> None:
    """Check what can be checked without models, load them, generate, and print the paths of the pictures."""
    files = picture_files(arguments.output, OUTPUT, arguments.num_images, arguments.overwrite)
    pipeline, images = prepared(arguments)
    pictures = draw(pipeline, arguments, images, arguments.num_images)
    write_pictures([enlarged(picture) for picture in pictures] if arguments.pipeline is None else pictures, files)
