"""The command line: ``diffusers-nested demo``, ``generate``, ``train`` and ``inspect``."""

import argparse
import logging
import sys
from collections.abc import Sequence

from ..errors import NestedAdapterError
from . import demo, generate, inspect, train

_COMMANDS = {"demo": demo, "generate": generate, "train": train, "inspect": inspect}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 2 for bad input, whose message goes to stderr.
    """
    parser = argparse.ArgumentParser(
        prog="diffusers-nested",
        description="Nested Attention for SDXL: a photo becomes a word of the prompt.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=module.HELP))
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _COMMANDS[arguments.command].run(arguments)
    except (NestedAdapterError, OSError) as error:
        sys.stderr.write(f"diffusers-nested {arguments.command}: {error}\n")
        return 2
    return 0
