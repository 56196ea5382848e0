"""Uploading an adapter: all checks come first, and everything goes into one commit."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from ..errors import NestedAdapterError, PublishError
from .card import TO_FILL_IN
from .names import check_branch
from .publication import Publication, sizes
from .repository import Published, check_private, check_shared_encoder, read_published

logger = logging.getLogger(__name__)


def upload(
    publication: Publication,
    *,
    commit_message: str | None,
    private: bool | None,
    token: str | bool | None,
    create_pr: bool,
    revision: str | None,
) -> str:
    """Upload an adapter with its card; the keywords are those of ``Publishable.publish``.

    Returns:
        The URL of the commit or the pull request.

    Raises:
        PublishError: A check fails, or the Hub refuses; nothing is published then.
    """
    check_branch(revision)
    repo_id = publication.facts.repo_id
    api = HfApi(token=token)
    with _publish_errors(repo_id):
        published = read_published(api, repo_id, revision, publication.subfolder)
        check_private(published, private)
        card = publication.card(published.card)
        files = publication.files(card)
        outdated = published.outdated(files, card.text)
        check_shared_encoder(api, published, outdated)
        show(publication, card, outdated)
        commit = api.create_commit(
            repo_id,
            _operations(files, outdated),
            commit_message=commit_message or "Upload nested adapter",
            parent_commit=_parent(api, published, private, None if create_pr else revision),
            revision=revision,
            create_pr=create_pr,
        )
    return commit.pr_url or commit.commit_url


def show(publication: Publication, card: ModelCard, outdated: Sequence[str] = ()) -> None:
    """Log which files are uploaded, removed and left out, and what the card lacks."""
    table = sizes(publication.files(card))
    cleaned = {publication.path_in_repo(name) for name in publication.contents.cleaned}
    for name, size in table.items():
        logger.info("%s  %s%s", _in_megabytes(size), name, "  (without its metadata)" if name in cleaned else "")
    logger.info("%s  in %d files for %s", _in_megabytes(sum(table.values())), len(table), publication.facts.repo_id)
    for name in outdated:
        logger.info("removed from the repository: %s", name)
    for name, count in publication.contents.left_out.items():
        logger.info("left out: %s%s", _printable(name), f" ({count} files)" if name.endswith("/") else "")
    if not card.data.get("license"):
        logger.warning("the card names no license (--license), so nobody knows how they may use the adapter")
    if TO_FILL_IN in card.text:
        logger.warning("the card has sections that you must fill in: look for %r in README.md", TO_FILL_IN)


def _parent(api: HfApi, published: Published, private: bool | None, branch: str | None) -> str | None:
    """The parent of the new commit, after creating the repository and the branch if necessary."""
    parent = published.commit
    if parent is None:
        api.create_repo(published.repo_id, private=private, exist_ok=True)
        made = api.model_info(published.repo_id)
        parent = made.sha
        if {file.rfilename for file in made.siblings or ()} - {".gitattributes"}:
            raise PublishError(
                f"{published.repo_id} was not published: somebody else has just created it. Look at it, then try again."
            )
    if branch is not None and (published.branch_is_new or published.commit is None):
        api.create_branch(published.repo_id, branch=branch, revision=parent, exist_ok=True)
    return parent


def _operations(files: dict[str, Path | bytes], outdated: Sequence[str]) -> list[Any]:
    added = [CommitOperationAdd(name, file if isinstance(file, bytes) else str(file)) for name, file in files.items()]
    return [*added, *(CommitOperationDelete(name, is_folder=False) for name in outdated)]


def _in_megabytes(size: int) -> str:
    return f"{size / 1e6:9.3f} MB"


def _printable(name: str) -> str:
    """A file name without characters that a terminal cannot print."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in name)


@contextmanager
def _publish_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except NestedAdapterError:
        raise
    # huggingface_hub raises RuntimeError if the upload of a large file fails
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise PublishError(f"{repo_id} was not published. {_explain(error)}") from error


def _explain(error: Exception) -> str:
    refusal: Any = error if isinstance(error, HfHubHTTPError) else error.__cause__
    if not isinstance(refusal, HfHubHTTPError):
        said = str(error).rstrip(".")
        return f"{said}. Check the connection and try again: files that have arrived are not sent again."
    status, said = refusal.response.status_code, refusal.server_message or str(refusal)
    if status in (401, 403):
        return (
            f"The Hub refused it ({status}: {said}). Log in with `hf auth login` or pass token=..., with a token that "
            "may write to this repository; for somebody else's repository, open a pull request with create_pr=True."
        )
    if status in (409, 412):
        return (
            f"Somebody else is committing to it at the same time ({status}: {said}), so nothing was changed. Look at "
            "what is there now, then try again."
        )
    return f"The Hub answered {status}: {said}. Try again: files that have arrived are not sent again."
