"""``diffusers-nested study``: a page of blind comparisons, and win rates from its answers."""

import argparse
import json
import logging
import sys
from pathlib import Path

from ..errors import NestedAdapterError
from ..files.write_whole import write_whole

HELP = "Write a page of blind comparisons from the folders of `evaluate`, or compute win rates from saved answers."
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="output of `evaluate`, with pictures")
    parser.add_argument(
        "--contestant",
        action="append",
        default=[],
        metavar="NAME[@SCALE]",
        help="the first is compared with each other one",
    )
    parser.add_argument("--pairs", type=int, help="comparisons on the page (default: 24)")
    parser.add_argument("--seed", type=int, help="selects them, their order and sides (default: 0)")
    parser.add_argument("--output", type=Path, help="file to write (default: study.html; for win rates, none)")
    parser.add_argument("--answers", nargs="+", type=Path, metavar="FILE", help="compute win rates from these files")
    parser.add_argument("--key", type=Path, default=Path("study.key.json"), help="the page's (default: study.key.json)")


def run(arguments: argparse.Namespace) -> None:
    """Write the page, or the win rates."""
    if bool(arguments.folders) == bool(arguments.answers):
        raise NestedAdapterError("Pass either folders of `evaluate` for a page, or --answers for win rates.")
    if arguments.answers:
        _rates(arguments)
    else:
        _page(arguments)


def _page(arguments: argparse.Namespace) -> None:
    from ..evaluation.study import choose_pairs, write_page

    output = arguments.output or Path("study.html")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise NestedAdapterError(f"--output is {str(output)!r}, expected a file that ends in .html for the page.")
    count = 24 if arguments.pairs is None else arguments.pairs
    pairs = choose_pairs(arguments.folders, arguments.contestant, count, arguments.seed or 0)
    key = write_page(pairs, output)
    logger.info("wrote %s with %d comparisons; keep %s to yourself", output.resolve(), len(pairs), key.resolve())


def _rates(arguments: argparse.Namespace) -> None:
    from ..evaluation.study.answers import as_table, win_rates

    _check_flags(arguments)
    if arguments.output:
        _check_table(arguments.output)
    rows = win_rates(arguments.key, arguments.answers)
    sys.stdout.write(as_table(rows))
    if arguments.output:
        write_whole(arguments.output, json.dumps(rows, indent=1) + "\n")


def _check_flags(arguments: argparse.Namespace) -> None:
    """Raise if flags of the page are given for win rates, which would ignore them."""
    given = {"--contestant": arguments.contestant, "--pairs": arguments.pairs, "--seed": arguments.seed}
    ignored = [flag for flag, value in given.items() if value not in ([], None)]
    if ignored:
        raise NestedAdapterError(f"{ignored[0]} is for the page; win rates follow from the key. Leave it out.")


def _check_table(output: Path) -> None:
    """Raise rather than replace a key, answers or anything else that is not a table of win rates."""
    if output.suffix.lower() != ".json" or output.is_dir():
        raise NestedAdapterError(f"--output is {str(output)!r}, expected a file that ends in .json for win rates.")
    if not output.exists():
        return
    try:
        is_table = isinstance(json.loads(output.read_text(encoding="utf-8")), list)
    except (OSError, ValueError, RecursionError):
        is_table = False
    if not is_table:
        raise NestedAdapterError(f"--output {output} exists and holds no win rates. Choose another file.")
