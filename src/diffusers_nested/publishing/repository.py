"""The state of a repository before an adapter is published to it, and which of its files are outdated."""

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
from .names import CARD, CONFIG, ENCODERS, is_adapters, is_picture

_KIND = "NestedAdapter"


@dataclass(frozen=True)
class Published:
    """A folder of a repository at the commit that publishing builds on.

    Attributes:
        repo_id: ``user/name``.
        commit: The commit; None if there is no repository yet.
        branch_is_new: Whether the branch must still be created, at this commit.
        is_private: Whether the repository is private.
        prefix: Prefix of the files in the adapter's folder, such as ``"people/"``.
        all_files: All files of the repository.
        card: Content of the README.md in the adapter's folder.
    """

    repo_id: str
    commit: str | None = None
    branch_is_new: bool = False
    is_private: bool = False
    prefix: str = ""
    all_files: frozenset[str] = field(default_factory=frozenset)
    card: bytes | None = None

    def outdated(self, new: Collection[str], card: str) -> list[str]:
        """Files of the earlier adapter that the new one does not have.

        Args:
            new: Paths of the new files in the repository.
            card: The new card. Pictures that only the earlier card shows are outdated.
        """
        old = [name.removeprefix(self.prefix) for name in self.all_files if name.startswith(self.prefix)]
        shown = shown_pictures(self.card or b"", list(filter(is_picture, old)))
        pictures = [name for name in shown if name not in card and quote(name) not in card]
        gone = {self.prefix + name for name in old if is_adapters(name) or name in pictures}
        return sorted(gone - set(new))


def read_published(api: HfApi, repo_id: str, revision: str | None, subfolder: str | None) -> Published:
    """Read the state of a repository at the head of a branch.

    Args:
        api: The client.
        repo_id: ``user/name``.
        revision: The branch, which need not exist; None for main.
        subfolder: The adapter's folder.

    Raises:
        PublishError: The revision is a tag, or the folder contains another model.
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
    """Raise if a repository should be private but is public.

    Raises:
        PublishError: The repository exists and is public.
    """
    if private and published.commit is not None and not published.is_private:
        raise PublishError(
            f"{published.repo_id} already exists and is public: private=True (--private) only applies to new "
            "repositories. Make it private on its page, or leave out private=True."
        )


def check_shared_encoder(api: HfApi, published: Published, outdated: Collection[str]) -> None:
    """Raise if an adapter in another folder needs the image encoder that would be removed.

    Raises:
        PublishError: Names the adapter.
    """
    files = published.all_files
    gone = [number for number, encoder in enumerate(ENCODERS) if f"{encoder}/{CONFIG}" in outdated]
    if published.prefix or not gone:
        return
    folders = sorted(name.removesuffix(CONFIG) for name in files if name.endswith(f"/{CONFIG}"))
    for folder in folders:
        lacking = [number for number in gone if f"{folder}{ENCODERS[number]}/{CONFIG}" not in files]
        config = _config(api, published, folder + CONFIG) if lacking else {}
        shared = [ENCODERS[number] for number in lacking if _shares(config, number)]
        if shared:
            raise PublishError(
                f"The adapter in {folder} of {published.repo_id} needs the {shared[0]}/ that this would remove. "
                f"Publish that adapter with an {shared[0]}/ of its own first."
            )


def _shares(config: dict[str, Any], number: int) -> bool:
    """Whether a configuration is that of an adapter that names no tower in this place, counted from 0."""
    if config.get("_class_name") != _KIND:
        return False
    widths, named = config.get("image_feature_dim"), config.get("image_encoder")
    count = len(widths) if isinstance(widths, list) else 1
    names = named if isinstance(named, list) else [named] * count
    return number < min(count, len(names)) and names[number] is None


def _existing_branch(api: HfApi, repo_id: str, revision: str | None) -> str | None:
    """The branch if it exists, else None."""
    if revision is None or revision.startswith("refs/"):
        return revision
    refs = api.list_repo_refs(repo_id)
    if revision in {ref.name for ref in refs.tags}:
        raise PublishError(f"revision {revision!r} is a tag of {repo_id}, and tags do not move. Give a branch.")
    return revision if revision in {ref.name for ref in refs.branches} else None


def _check_is_adapters(api: HfApi, published: Published) -> None:
    """Raise unless the folder is empty or contains an adapter: never replace a pipeline or another model."""
    prefix, files = published.prefix, published.all_files
    where = f"{published.repo_id}/{prefix}".rstrip("/")
    remedy = "Publish to another repository, or to a folder of this one with subfolder=... (--subfolder)."
    if prefix + CONFIG not in files:
        taken = sorted(name for name in files if name.startswith(prefix) and is_adapters(name.removeprefix(prefix)))
        if taken:
            raise PublishError(f"{where} contains no adapter, but {taken[0]} would be replaced. {remedy}")
        return
    found = _config(api, published, prefix + CONFIG).get("_class_name")
    if found != _KIND:
        raise PublishError(f"The config.json of {where} belongs to a {found!r}, not a {_KIND}. {remedy}")


def _config(api: HfApi, published: Published, name: str) -> dict[str, Any]:
    """Any configuration; empty if the file is not one."""
    try:
        config = json.loads(_content(api, published, name))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _content(api: HfApi, published: Published, name: str) -> bytes:
    return Path(api.hf_hub_download(published.repo_id, name, revision=published.commit)).read_bytes()
