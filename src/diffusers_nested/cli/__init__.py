"""The command line, ``diffusers-nested``: one module per command, which does its heavy imports in ``run``."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import NestedAdapterError
from . import app, convert, demo, evaluate, generate, inspect, prepare, publish, study, trace, train
from .wording import in_words

_COMMANDS = {
    "demo": demo,
    "generate": generate,
    "app": app,
    "trace": trace,
    "prepare": prepare,
    "train": train,
    "inspect": inspect,
    "convert": convert,
    "publish": publish,
    "evaluate": evaluate,
    "study": study,
}
_FAILED, _BAD_INPUT, _INTERRUPTED = 1, 2, 130  # as shells and argparse have them


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: results go to standard output, messages to standard error.

    Returns:
        The exit status: 0; 2 for bad input, 1 for work that failed, 130 for an interruption, each with a message.
    """
    parser, parsers = _parsers()
    arguments, unknown = parser.parse_known_args(argv)
    command = parsers[arguments.command]
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    _set_up_logs()
    try:
        _COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _end(command, "interrupted", _INTERRUPTED)
    except BrokenPipeError:  # such as `… | head -1`; Python would complain once more when it closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except NestedAdapterError as error:
        return _end(command, in_words(error, command), _BAD_INPUT)
    except (OSError, MemoryError) as error:
        return _end(command, in_words(error, command), _FAILED)
    return 0


class _Parser(argparse.ArgumentParser):
    """Prints errors without the whole usage before them."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"{self.prog}: {message}\nSee {self.prog} --help.\n")


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(
        prog="diffusers-nested",
        description="Nested Attention for diffusers: a photo becomes a word of the prompt.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {}
    for name, module in _COMMANDS.items():
        parsers[name] = commands.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(parsers[name])
    return parser, parsers


def _set_up_logs() -> None:
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("diffusers_nested").setLevel(logging.INFO)  # not the libraries', which log every request
    # Said of names that diffusers imports, whichever pipeline it is imported for.
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "requires torchvision (not installed); falling back to" not in record.getMessage()


def _end(command: argparse.ArgumentParser, message: str, status: int) -> int:
    sys.stderr.write(f"{command.prog}: {message}\n")
    return status
