"""``diffusers-nested convert``: an IP-Adapter's file as a folder of our format."""

import argparse
import sys
from pathlib import Path

from .flags import add_adapter_flags
from .values import number_or_none

HELP = "Turn an IP-Adapter's file into an adapter's folder, which can be inspected, published and trained further."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="repository or folder of the IP-Adapter, or its file")
    parser.add_argument("output", type=Path, help="folder to write; it must not exist")
    add_adapter_flags(parser, "subfolder", "weight_name", "image_encoder_folder", "subject_token")
    add_adapter_flags(parser, "mechanism", "revision", "token")
    parser.add_argument(
        "--alpha",
        type=number_or_none,
        default=argparse.SUPPRESS,
        help="norm of a subject's value in units of the word's own, or none (default: 2, for mechanisms that have one)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Convert, and print the folder's path."""
    from ..adapter.convert import convert_ip_adapter
    from ..adapter.locate import source_of

    hub = {"revision": arguments.revision, "token": arguments.token}
    source, weight_name = source_of(arguments.source, arguments.subfolder, arguments.weight_name, **hub)
    names = ("subject_token", "mechanism", "alpha")
    settings = {name: value for name, value in vars(arguments).items() if name in names}
    convert_ip_adapter(source, weight_name, arguments.output, arguments.image_encoder_folder, **settings)
    sys.stdout.write(f"{arguments.output.resolve()}\n")
