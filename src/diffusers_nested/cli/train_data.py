"""``diffusers-nested prepare shards``: a training folder as archives that are read from one end to the other."""

import argparse
import sys
from pathlib import Path

from .values import whole

HELP = "A training folder as shards of webdataset, for sets that lie on slow or distant disks."


def add_shards(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="training folder, with a metadata.jsonl")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="folder of the shards; the same one goes on where it ended"
    )
    parser.add_argument(
        *("--examples-per-shard", "--examples_per_shard"),
        type=whole(1),
        default=1000,
        metavar="NUMBER",
        help="examples in a shard (default: %(default)s)",
    )


def run_shards(arguments: argparse.Namespace) -> None:
    """Write the shards, and say how many there are."""
    from ..preparing import write_shards

    done = write_shards(arguments.source, arguments.output, arguments.examples_per_shard)
    sys.stdout.write(f"{done.examples} examples in {done.shards} shards in {arguments.output.resolve()}\n")
