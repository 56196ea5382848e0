"""Where a model's files are: in a folder, or in a repository on the Hub."""

import os
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ..errors import AdapterLoadError, Remedy
from .failures import download_errors
from .json_files import shown
from .paths import check_repository, file_in, is_file, is_folder, plain_path
from .rules import Rule

_REVISION = Rule(lambda value: isinstance(value, str) and value != "", "a branch, tag or commit").or_none()
_CACHE = Rule(lambda value: isinstance(value, str | PathLike), "the path of a folder").or_none()


@dataclass(frozen=True)
class Source:
    """A folder or a repository, and how to access it.

    Args:
        location: The folder or the repository id. A folder takes precedence over a repository of the same name.
        subfolder: Folder within it; ``./people/`` is normalized to ``people``.
        revision: Branch, tag or commit of the repository.
        token: Access token for the Hub.
        cache_dir: Folder for downloads.
        local_files_only: Download nothing.
        force_download: Download files even if they are cached.
        on_hub: Treat the location as a repository even if there is a folder of this name.

    Raises:
        AdapterLoadError: The subfolder leads out of the source, or the revision or the folder for downloads is of
            another type.
    """

    location: str
    subfolder: str | None = None
    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | PathLike[str] | None = None
    local_files_only: bool = False
    force_download: bool = False
    on_hub: bool = False

    def __post_init__(self) -> None:
        _REVISION.check("revision", self.revision, AdapterLoadError)
        _CACHE.check("cache_dir", self.cache_dir, AdapterLoadError)
        object.__setattr__(self, "subfolder", plain_path(self.subfolder))
        object.__setattr__(self, "on_hub", self.on_hub or not is_folder(self.location))

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this machine."""
        return not self.on_hub

    def within(self, name: str) -> str:
        """Path of a file in the subfolder, relative to the top of the source."""
        return "/".join(filter(None, (self.subfolder, name)))

    def find(self, filename: str) -> Path | None:
        """Local path of a file, downloaded if necessary; None if the source has no such file.

        Args:
            filename: Path relative to the top of the source.

        Raises:
            AdapterLoadError: The file is a link that leads out of its folder, or there is no such source.
            DownloadError: The repository cannot be read, or it is unknown whether it has the file.
        """
        path = Path(self.location, filename) if self.is_folder else self._download(filename)
        try:
            return None if path is None else file_in(path.parent, path.name)
        except FileNotFoundError:
            return None

    def pinned(self, filename: str, remedy: Remedy = Remedy.SUBFOLDER) -> tuple["Source", Path]:
        """Pin a repository to its current commit, so that all files come from the same one.

        Args:
            filename: A file that the source must have, relative to its top.
            remedy: What to do without it, for the message.

        Returns:
            The pinned source, and the local path of the file.

        Raises:
            AdapterLoadError: There is no such file, or the source cannot be read.
        """
        path = self.find(filename)
        if path is None:
            training = _of_training(Path(self.location, filename).parent) if self.is_folder else ""
            raise AdapterLoadError(f"{self.location} has no {shown(filename)[1:-1]}.{training} {remedy}")
        return self.at_commit_of(path, filename), path

    def at_commit_of(self, path: Path, filename: str) -> "Source":
        """The source, pinned to the commit of a file that ``find`` has found at ``path``."""
        # the cache stores files as …/snapshots/<commit>/<path in the repository>
        return self if self.is_folder else replace(self, revision=path.parents[filename.count("/")].name)

    def anonymous(self) -> "Source":
        """The same place without the means of access, such as a token; it stays the same in another working folder."""
        location = os.path.abspath(self.location) if self.is_folder else self.location
        return Source(location, self.subfolder, self.revision, on_hub=self.on_hub)

    def _download(self, filename: str) -> Path | None:
        check_repository(self.location)
        names = ("revision", "token", "cache_dir", "local_files_only", "force_download")
        hub: dict[str, Any] = {name: getattr(self, name) for name in names}
        with download_errors(self.location, filename, self.revision):
            try:
                return Path(hf_hub_download(self.location, filename, **hub))
            except LocalEntryNotFoundError:
                if self._is_known_to_lack(filename):
                    return None
                raise
            except EntryNotFoundError:
                return None

    def _is_known_to_lack(self, filename: str) -> bool:
        cache = None if self.cache_dir is None else str(self.cache_dir)
        found = try_to_load_from_cache(self.location, filename, cache_dir=cache, revision=self.revision)
        return found is not None and not isinstance(found, str)


def _of_training(folder: Path) -> str:
    """What a message says of the folder of a training that has not ended."""
    if not is_file(folder / "training_config.json"):
        return ""
    found = (path.parent for kind in ("after-*", "checkpoint-*/adapter") for path in folder.glob(f"{kind}/config.json"))
    names = ", ".join(sorted(str(path.relative_to(folder)) for path in found)) or "none"
    return f" The training in it has not ended: go on with it, or take one of its earlier adapters ({names})."
