"""What a repository holds before an adapter is published to it, and what must go."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from ..errors import PublishError
from .card import shown_pictures
from .names import CARD, CONFIG, ENCODER, is_adapters, is_picture

_KIND = "NestedAdapter"


@dataclass(frozen=True)
class Published:
    """A folder of a repository at one commit, which the next is made upon.

    Attributes:
        repo_id: ``user/name``.
        commit: None if there is no repository yet.
        branch_is_new: Whether the branch is still to be made, at this commit.
        is_private: Whether only its owner sees it.
        prefix: Of the files of the adapter's folder, such as ``"people/"``.
        all_files: Every file of the repository.
        card: Content of the README.md of the adapter's folder.
    """

    repo_id: str
    commit: str | None = None
    branch_is_new: bool = False
    is_private: bool = False
    prefix: str = ""
    all_files: frozenset[str] = field(default_factory=frozenset)
    card: bytes | None = None

    def outdated(self, new: Collection[str], card: str) -> list[str]:
        """Files of the adapter that was there, which the new one does not have.

        Args:
            new: Paths of the new files in the repository.
            card: The new card. A picture that the earlier card showed goes if this one does not name it.
        """
        old = [name.removeprefix(self.prefix) for name in self.all_files if name.startswith(self.prefix)]
        shown = shown_pictures(self.card or b"", list(filter(is_picture, old)))
        pictures = [name for name in shown if name not in card and quote(name) not in card]
        gone = {self.prefix + name for name in old if is_adapters(name) or name in pictures}
        return sorted(gone - set(new))


def read_published(api: HfApi, repo_id: str, revision: str | None, subfolder: str | None) -> Published:
    """What there is, at the branch's head.

    Args:
        api: To ask with.
        repo_id: ``user/name``.
        revision: A branch, which need not exist; None for main.
        subfolder: The adapter's folder.

    Raises:
        PublishError: The revision is a tag, or the folder holds another model.
    """
    try:
        at = _existing_branch(api, repo_id, revision)
        info = api.model_info(repo_id, revision=at)
    except RepositoryNotFoundError:
        return Published(repo_id)
    prefix = f"{subfolder}/" if subfolder else ""
    published = Published(
        repo_id,
        info.sha,
        branch_is_new=at != revision,
        is_private=bool(info.private),
        prefix=prefix,
        all_files=frozenset(file.rfilename for file in info.siblings or ()),
    )
    _check_is_adapters(api, published)
    if prefix + CARD not in published.all_files:
        return published
    return replace(published, card=_content(api, published, prefix + CARD))


def check_private(published: Published, private: bool | None) -> None:
    """Raise if what shall be private would be public.

    Raises:
        PublishError: The repository is there and public.
    """
    if private and published.commit is not None and not published.is_private:
        raise PublishError(
            f"{published.repo_id} is there already, and public: private=True (--private) only makes new repositories "
            "private. Change it on its page, or leave out private=True."
        )


def check_shared_encoder(api: HfApi, published: Published, outdated: Collection[str]) -> None:
    """Raise if an adapter in another folder reads the image encoder that is to be removed.

    Raises:
        PublishError: Names the adapter.
    """
    files, encoder = published.all_files, f"{ENCODER}/{CONFIG}"
    if published.prefix or encoder not in outdated:
        return
    folders = {name.removesuffix(CONFIG) for name in files if name.endswith(f"/{CONFIG}")}
    for folder in sorted(folder for folder in folders if folder + encoder not in files):
        config = _config(api, published, folder + CONFIG)
        if config.get("_class_name") == _KIND and config.get("image_encoder") is None:
            raise PublishError(
                f"The adapter in {folder} of {published.repo_id} reads the {ENCODER}/ that this publish would remove. "
                f"Publish that adapter with an {ENCODER}/ of its own first."
            )


def _existing_branch(api: HfApi, repo_id: str, revision: str | None) -> str | None:
    """The branch if it is there, else None."""
    if revision is None or revision.startswith("refs/"):
        return revision
    refs = api.list_repo_refs(repo_id)
    if revision in {ref.name for ref in refs.tags}:
        raise PublishError(f"revision {revision!r} is a tag of {repo_id}, which does not move. Name a branch.")
    return revision if revision in {ref.name for ref in refs.branches} else None


def _check_is_adapters(api: HfApi, published: Published) -> None:
    """Raise unless what would be replaced is an adapter; what is there may be a pipeline, or others' image encoder."""
    prefix, files = published.prefix, published.all_files
    where = f"{published.repo_id}/{prefix}".rstrip("/")
    remedy = "Publish to another repository, or to a folder of this one with subfolder=... (--subfolder)."
    if prefix + CONFIG not in files:
        taken = sorted(name for name in files if name.startswith(prefix) and is_adapters(name.removeprefix(prefix)))
        if taken:
            raise PublishError(f"{where} holds no adapter, but {taken[0]}, which would be replaced. {remedy}")
        return
    found = _config(api, published, prefix + CONFIG).get("_class_name")
    if found != _KIND:
        raise PublishError(f"The config.json of {where} is of {found!r}, not of a {_KIND}. {remedy}")


def _config(api: HfApi, published: Published, name: str) -> dict[str, Any]:
    """A configuration of anything; empty if it is none."""
    try:
        config = json.loads(_content(api, published, name))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _content(api: HfApi, published: Published, name: str) -> bytes:
    return Path(api.hf_hub_download(published.repo_id, name, revision=published.commit)).read_bytes()
