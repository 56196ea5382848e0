"""Where the files of a model are: a folder, or a repository of the Hub and how to reach it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ..errors import AdapterLoadError, Remedy
from . import check_repository, is_file, is_folder, plain_subfolder, read_index, shown
from .failures import download_errors


@dataclass(frozen=True)
class Source:
    """A folder or a repository, and how to reach it.

    Args:
        location: The folder or the repository.
        subfolder: Folder within it; ``people`` is kept of ``./people/``.
        revision: Branch, tag or commit of a repository.
        token: Access token of the Hub.
        cache_dir: Folder of downloads.
        local_files_only: Download nothing.
        force_download: Download again.
        on_hub: It is a repository, whatever folders there are here: so for a name that a configuration gives.

    Raises:
        AdapterLoadError: The sub-folder leads out of the source.
    """

    location: str
    subfolder: str | None = None
    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    force_download: bool = False
    on_hub: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "subfolder", plain_subfolder(self.subfolder))

    @property
    def is_folder(self) -> bool:
        """Whether the files are on this machine already; a folder goes before a repository of the same name."""
        return not self.on_hub and is_folder(self.location)

    def hub_keywords(self) -> dict[str, Any]:
        """The keywords that diffusers, transformers and huggingface_hub share."""
        names = ("revision", "token", "cache_dir", "local_files_only", "force_download")
        return {name: getattr(self, name) for name in names}

    def within(self, name: str) -> str:
        """Path of a file or folder of the sub-folder, from the top of the source."""
        return "/".join(filter(None, (self.subfolder, name)))

    def find(self, filename: str) -> Path | None:
        """Path of a file of this source, downloaded if need be; None if the source has no such file.

        Raises:
            AdapterLoadError: There is no such source, the repository cannot be read, or it is not known whether it has
                the file.
        """
        if self.is_folder:
            path = Path(self.location, filename)
            return path if is_file(path) else None
        check_repository(self.location)
        with download_errors(self.location, filename, self.revision):
            try:
                return Path(hf_hub_download(self.location, filename, **self.hub_keywords()))
            except LocalEntryNotFoundError:
                if self._is_known_to_lack(filename):
                    return None
                raise
            except EntryNotFoundError:
                return None

    def pinned(self, filename: str) -> "Source":
        """The same source at the commit that it is at now, so that all files are of one commit.

        Args:
            filename: A file that it must have.

        Raises:
            AdapterLoadError: It has no such file, or cannot be read.
        """
        top = self.local_folder(filename)
        # the cache keeps a file as …/snapshots/<commit>/<path in the repository>
        return self if self.is_folder else replace(self, revision=top.name)

    def local_folder(self, filename: str) -> Path:
        """The top of the source on this machine.

        Args:
            filename: A file that it must have.

        Raises:
            AdapterLoadError: It has no such file, or cannot be read.
        """
        path = self.find(filename)
        if path is None:
            raise AdapterLoadError(f"{self.location} has no {shown(filename)[1:-1]}. {Remedy.SUBFOLDER}")
        return path.parents[filename.count("/")]

    def _is_known_to_lack(self, filename: str) -> bool:
        found = try_to_load_from_cache(self.location, filename, cache_dir=self.cache_dir, revision=self.revision)
        return found is not None and not isinstance(found, str)


def fetch_weights(source: Source, folder: str | None, filename: str, index: str) -> None:
    """Have the weights of a model on this machine: one file, or an index and its shards.

    Args:
        source: Where the model is.
        folder: Of the model, within the source.
        filename: Name of the weights if they are one file.
        index: Name of the list of shards otherwise.

    Raises:
        AdapterLoadError: There are no such weights, or not all of them.
    """

    def within(name: str) -> str:
        return "/".join(filter(None, (folder, name)))

    if source.find(within(filename)) is not None:
        return
    listed = source.find(within(index))
    if listed is None:
        raise AdapterLoadError(f"{source.location} has no weights {shown(within(filename))[1:-1]}. {Remedy.WEIGHTS}")
    for shard in read_index(listed):
        if source.find(within(shard)) is None:
            raise AdapterLoadError(
                f"{source.location} lacks {within(shard)}, which {within(index)} names. Publish or copy it again."
            )
