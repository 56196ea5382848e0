"""The command line, ``diffusers-nested``: a module per command."""

import argparse
import logging
import sys
from collections.abc import Sequence

from ..errors import NestedAdapterError
from . import demo, evaluate, generate, inspect, publish, study, train

_COMMANDS = {
    "demo": demo,
    "generate": generate,
    "train": train,
    "inspect": inspect,
    "publish": publish,
    "evaluate": evaluate,
    "study": study,
}


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
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("diffusers_nested").setLevel(logging.INFO)  # not the libraries', which log every request
    try:
        _COMMANDS[arguments.command].run(arguments)
    except (NestedAdapterError, OSError) as error:
        sys.stderr.write(f"diffusers-nested {arguments.command}: {error}\n")
        return 2
    return 0
