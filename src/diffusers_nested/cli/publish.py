"""``diffusers-nested publish``: a trained folder as a repository of the Hub that explains itself."""

import argparse
import sys
from pathlib import Path

HELP = "Publish an adapter's folder on the Hub, with a model card; --dry-run shows what would be uploaded."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("folder", type=Path, help="folder of the adapter, such as a run's output_dir")
    parser.add_argument("repo_id", help="user/name; the repository is made if there is none")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="upload nothing: list the files, and write the model card to the standard output; needs no network",
    )
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", help="branch; made if there is none (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="ask the repository's owner to merge it")
    parser.add_argument("--subfolder", help="where the adapter goes in the repository (default: its top)")
    parser.add_argument("--base-model", help="repository of the pipeline that the adapter was trained on")
    parser.add_argument("--license", help='such as "apache-2.0"')
    parser.add_argument("--commit-message")
    parser.add_argument("--token", help="access token (default: the one of `hf auth login`)")


def run(arguments: argparse.Namespace) -> None:
    """Check the folder, say what is in it, and upload it."""
    from ..adapter import NestedAdapter
    from ..publishing import prepare_publication, show

    common = {name: getattr(arguments, name) for name in ("revision", "subfolder", "base_model", "license")}
    if arguments.dry_run:
        if arguments.create_pr:
            common["revision"] = None  # the card tells how to load it once it is merged
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
