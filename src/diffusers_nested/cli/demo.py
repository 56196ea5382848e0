"""``diffusers-nested demo``: one picture that shows what an adapter does."""

import argparse
from pathlib import Path

from .pictures import picture_files, write_pictures
from .values import SEED

HELP = "Generate a poster with unseen people and pets in the bundled miniature world (about a minute on two cores)."
OUTPUT = Path("demo.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"file to write (default: {OUTPUT})")
    parser.add_argument("--overwrite", action="store_true", help=f"also replace a file other than {OUTPUT}")
    parser.add_argument("--seed", type=SEED, default=4, help="selects the people and the pets (default: 4)")


def run(arguments: argparse.Namespace) -> None:
    """Draw the poster and print its path."""
    files = picture_files(arguments.output, OUTPUT, overwrite=arguments.overwrite)
    from ..miniature.demo import draw_demo

    write_pictures([draw_demo(arguments.seed)], files)
