"""Where the files of a model are: a folder, or a repository of the Hub and how to reach it."""

from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ..errors import AdapterLoadError, Remedy
from .failures import download_errors
from .json_files import shown
from .paths import check_repository, file_in, is_folder, plain_path


@dataclass(frozen=True)
class Source:
    """A folder or a repository, and how to reach it.

    Args:
        location: The folder or the repository. A folder goes before a repository of the same name.
        subfolder: Folder within it; ``people`` is kept of ``./people/``.
        revision: Branch, tag or commit of a repository.
        token: Access token of the Hub.
        cache_dir: Folder of downloads.
        local_files_only: Download nothing.
        force_download: Download again.
        on_hub: It is a repository, whatever folders there are here.

    Raises:
        AdapterLoadError: The sub-folder leads out of the source.
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
        object.__setattr__(self, "subfolder", plain_path(self.subfolder))
        object.__setattr__(self, "on_hub", self.on_hub or not is_folder(self.location))

    @property
    def is_folder(self) -> bool:
        """Whether the files are on this machine already."""
        return not self.on_hub

    def within(self, name: str) -> str:
        """Path of a file or folder of the sub-folder, from the top of the source."""
        return "/".join(filter(None, (self.subfolder, name)))

    def find(self, filename: str) -> Path | None:
        """Path of a file of this source, downloaded if need be; None if the source has no such file.

        Args:
            filename: From the top of the source.

        Raises:
            AdapterLoadError: The file is a link that leaves its folder, or there is no such source.
            DownloadError: The repository cannot be read, or it is not known whether it has the file.
        """
        path = Path(self.location, filename) if self.is_folder else self._download(filename)
        try:
            return None if path is None else file_in(path.parent, path.name)
        except FileNotFoundError:
            return None

    def pinned(self, filename: str) -> tuple["Source", Path]:
        """The same source at the commit that it is at now, so that all files are of one commit.

        Args:
            filename: A file that it must have, from the top of the source.

        Returns:
            The source, and the path of the file.

        Raises:
            AdapterLoadError: It has no such file, or cannot be read.
        """
        path = self.find(filename)
        if path is None:
            raise AdapterLoadError(f"{self.location} has no {shown(filename)[1:-1]}. {Remedy.SUBFOLDER}")
        # the cache keeps a file as …/snapshots/<commit>/<path in the repository>
        commit = path.parents[filename.count("/")].name
        return (self if self.is_folder else replace(self, revision=commit)), path

    def anonymous(self) -> "Source":
        """The place alone, without what belongs to who reaches it, such as a token."""
        return Source(self.location, self.subfolder, self.revision, on_hub=self.on_hub)

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
