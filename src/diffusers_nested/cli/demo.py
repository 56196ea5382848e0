"""``diffusers-nested demo``: one picture that shows what an adapter does."""

import argparse
import logging
from pathlib import Path

HELP = "Generate a poster with unseen people and pets in the bundled miniature world (about a minute on two cores)."
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--output", type=Path, default=Path("demo.png"), help="file to write (default: demo.png)")
    parser.add_argument("--seed", type=int, default=4, help="chooses the people and the pets (default: 4)")


def run(arguments: argparse.Namespace) -> None:
    """Draw the poster and say where it is."""
    from ..miniature.demo import draw_demo

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw_demo(arguments.seed).save(arguments.output)
    logger.info("wrote %s", arguments.output.resolve())
