"""``diffusers-nested demo``: one picture that shows what an adapter does."""

import argparse
from pathlib import Path

from .pictures import picture_files, write_pictures
from .values import SEED

HELP = (
    "Generate a picture of unseen people in the bundled miniature world; with --sheet, a large one of all that it can."
)
OUTPUT, SHEET = Path("demo.png"), Path("demo-sheet.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--sheet", action="store_true", help="a large sheet: blends, other words and pets, too")
    parser.add_argument("--output", type=Path, help=f"file to write (default: {OUTPUT}; of a sheet, {SHEET})")
    parser.add_argument("--overwrite", action="store_true", help="also replace another file than the default one")
    parser.add_argument("--seed", type=SEED, default=4, help="selects the people and the pets (default: 4)")


def run(arguments: argparse.Namespace) -> None:
    """Draw the picture and print its path."""
    usual = SHEET if arguments.sheet else OUTPUT
    files = picture_files(arguments.output or usual, usual, overwrite=arguments.overwrite)
    from ..miniature.demo import draw_demo, draw_sheet

    write_pictures([(draw_sheet if arguments.sheet else draw_demo)(arguments.seed)], files)
