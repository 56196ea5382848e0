"""``diffusers-nested publish``: uploads a trained adapter to the Hub, with a model card."""

import argparse
import sys
from pathlib import Path

HELP = "Publish an adapter's folder on the Hub, with a model card; --dry-run shows what would be uploaded."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("folder", type=Path, help="folder of the adapter, such as a run's output_dir")
    parser.add_argument("repo_id", help="user/name; the repository is created if necessary")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="upload nothing: list the files, and write the model card to the standard output; works offline",
    )
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", help="branch, created if necessary (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of writing to the branch")
    parser.add_argument("--subfolder", help="folder of the adapter in the repository (default: its top)")
    parser.add_argument("--base-model", help="repository of the pipeline that the adapter was trained on")
    parser.add_argument("--license", help='such as "apache-2.0"')
    parser.add_argument("--commit-message")
    parser.add_argument("--token", help="access token (default: the one of `hf auth login`)")


def run(arguments: argparse.Namespace) -> None:
    """Check the folder, list its files, and upload it."""
    from ..adapter import NestedAdapter
    from ..publishing import prepare_publication, show

    common = {name: getattr(arguments, name) for name in ("revision", "subfolder", "base_model", "license")}
    if arguments.dry_run:
        if arguments.create_pr:
            common["revision"] = None  # the card shows how to load it once it is merged
        publication = prepare_publication(arguments.folder, arguments.repo_id, load=NestedAdapter.from_source, **common)
        card = publication.card()
        show(publication, card)
        sys.stdout.buffer.write(card.content.encode())  # as it is published, whatever the terminal's encoding
        return
    address = NestedAdapter.publish(
        arguments.folder,
        arguments.repo_id,
        commit_message=arguments.commit_message,
        private=arguments.private,
        token=arguments.token,
        create_pr=arguments.create_pr,
        **common,
    )
    sys.stdout.write(f"{address}\n")
