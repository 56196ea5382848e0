"""Publishing an adapter: everything is checked first, and one commit holds all of it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

from ..errors import PublishError
from .card import TO_FILL_IN
from .contents import CARD, is_outdated
from .publication import Publication, prepare_publication, sizes

logger = logging.getLogger(__name__)


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    subfolder: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
) -> str:
    """Publish an adapter's folder on the Hub, with a model card.

    The folder is checked by loading it. Only what belongs to an adapter is uploaded, in one commit: weights as
    safetensors, configurations, the card, an ``evaluation.json`` and pictures. A publish that was cut off leaves the
    repository as it was; run it again, and large files that have arrived are not sent again.

    Args:
        folder: Of the adapter.
        repo_id: ``user/name``; made if there is none.
        commit_message: Of the one commit.
        private: Whether a new repository is private.
        token: Access token with the right to write; by default the one of ``hf auth login``.
        create_pr: Ask the owner to merge it instead of writing to the branch.
        revision: Branch; made if there is none. By default main.
        subfolder: Where the adapter goes in the repository; by default, its top.
        base_model: Repository of the pipeline that it was trained on; by default the card's, or SDXL for an adapter of
            its size.
        license: Identifier of a licence, such as ``"apache-2.0"``; by default the card's.

    Returns:
        The address of the commit or of the pull request.

    Raises:
        PublishError: Something does not fit, or the Hub refuses; nothing has been published then.
        AdapterLoadError: The folder holds no whole adapter.
    """
    publication = prepare_publication(
        folder,
        repo_id,
        subfolder=subfolder,
        revision=None if create_pr else revision,
        base_model=base_model,
        license=license,
    )
    api = HfApi(token=token)
    with _publish_errors(repo_id):
        present, present_at = _present(api, repo_id, revision)
        card = publication.card(_published_card(api, publication, present, present_at))
        show(publication, card)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None and not create_pr and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            _operations(publication, card, present),
            commit_message=commit_message or "Upload nested adapter",
            revision=revision,
            create_pr=create_pr,
        )
    return commit.pr_url or commit.commit_url


def show(publication: Publication, card: ModelCard) -> None:
    """Log what is uploaded, with sizes, what is left out, and what the card lacks."""
    table = sizes(publication.files(card))
    for name, size in table.items():
        logger.info("%s  %s", _in_megabytes(size), name)
    logger.info("%s  in %d files for %s", _in_megabytes(sum(table.values())), len(table), publication.facts.repo_id)
    for name, count in publication.contents.left_out.items():
        logger.info("left out: %s%s", name, f" ({count} files)" if name.endswith("/") else "")
    if not card.data.get("license"):
        logger.warning("the card names no license (--license): nobody knows what they may do with the adapter")
    if TO_FILL_IN in card.text:
        logger.warning("the card has sections for you to fill in: look for %r in README.md", TO_FILL_IN)


def _present(api: HfApi, repo_id: str, revision: str | None) -> tuple[set[str], str | None]:
    """What the repository holds, and where: at the branch, or at main if the branch is still to be made."""
    try:
        return set(api.list_repo_files(repo_id, revision=revision)), revision
    except RevisionNotFoundError:
        return set(api.list_repo_files(repo_id)), None
    except RepositoryNotFoundError:
        return set(), None


def _published_card(api: HfApi, publication: Publication, present: set[str], revision: str | None) -> str | None:
    """The card in the repository, read only where the folder has none."""
    name = publication.path_in_repo(CARD)
    if publication.readme is not None or name not in present:
        return None
    path = api.hf_hub_download(publication.facts.repo_id, name, revision=revision)
    return Path(path).read_text(encoding="utf-8-sig")


def _operations(publication: Publication, card: ModelCard, present: set[str]) -> list[Any]:
    files = publication.files(card)
    outdated = [name for name in sorted(present - files.keys()) if is_outdated(name, files, publication.subfolder)]
    added = [CommitOperationAdd(name, file if isinstance(file, bytes) else str(file)) for name, file in files.items()]
    return [*added, *(CommitOperationDelete(name, is_folder=False) for name in outdated)]


def _in_megabytes(size: int) -> str:
    return f"{size / 1e6:9.3f} MB"


@contextmanager
def _publish_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except PublishError:
        raise
    # huggingface_hub raises a RuntimeError for a large file that did not arrive
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise PublishError(f"{repo_id} was not published. {_explain(error)}") from error


def _explain(error: Exception) -> str:
    refusal: Any = error if isinstance(error, HfHubHTTPError) else error.__cause__
    if not isinstance(refusal, HfHubHTTPError):
        said = str(error).rstrip(".")
        return f"{said}. Check the connection and run it again: what has arrived is not sent again."
    status, said = refusal.response.status_code, refusal.server_message or str(refusal)
    if status in (401, 403):
        return (
            f"The Hub refused it ({status}: {said}). Log in with `hf auth login` or pass token=..., with a token that "
            "may write to this repository; to the repository of somebody else, make a pull request with create_pr=True."
        )
    return f"The Hub answered {status}: {said}. Run it again: what has arrived is not sent again."
