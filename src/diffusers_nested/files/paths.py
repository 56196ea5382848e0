"""Files that are where they seem to be, and names that can only mean one thing."""

import posixpath
import re
from os import PathLike, fspath
from pathlib import Path

from ..compat import blob_stores, is_snapshot
from ..errors import AdapterLoadError
from .json_files import shown

CONFIG_NAME = "config.json"
# user/name, as the Hub has them; a name without a user, a path and a file are none
_REPOSITORY = re.compile(r"(?!.*(--|\.\.|\.git$))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)


def is_folder(path: str | PathLike[str]) -> bool:
    """Whether there is a folder; no name is too long or too strange to ask. The empty name is none."""
    try:
        return bool(fspath(path)) and Path(path).is_dir()
    except OSError:
        return False


def is_file(path: str | PathLike[str]) -> bool:
    """As ``is_folder``, of a file."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def is_download(folder: Path) -> bool:
    """Whether a folder is, or lies in, a repository as huggingface_hub keeps it: its files are a stranger's."""
    return bool(_snapshots(folder.absolute()))


def plain_path(name: str | PathLike[str] | None, what: str = "subfolder") -> str | None:
    """The plain path of something within a folder: ``people`` of ``./people/``; None for the folder itself.

    Args:
        name: As somebody wrote it.
        what: Its name in messages.

    Raises:
        AdapterLoadError: It leads out of the folder, or is not a path.
    """
    if name is None:
        return None
    text = fspath(name) if isinstance(name, str | PathLike) else None
    plain = None if text is None or "\0" in text else posixpath.normpath(Path(text).as_posix())
    if plain is None or plain.split("/")[0] in ("..", "") or Path(plain).is_absolute():
        raise AdapterLoadError(
            f"{what} is {shown(name)}, expected a path within the repository or folder, such as 'people'."
        )
    return None if plain == "." else plain


def check_repository(name: str) -> None:
    """Raise unless a name that is not that of a folder here can be a repository's; nobody is asked.

    Raises:
        AdapterLoadError: It is a file, or cannot be a repository's name.
    """
    if is_file(name):
        raise AdapterLoadError(
            f"{name} is a file. Name the folder that holds the adapter's config.json, and the file as "
            f"weight_name={Path(name).name!r}."
        )
    if not _REPOSITORY.fullmatch(name):
        raise AdapterLoadError(
            f"There is no folder {shown(name)} here, and it cannot be a repository's id either, such as 'user/name'."
        )


def file_in(folder: Path, name: str) -> Path:
    """The path of a file that lies in a folder, also by where its links lead.

    A downloaded repository is a folder of links into the cache of huggingface_hub, which are followed.

    Raises:
        FileNotFoundError: There is no such file.
        AdapterLoadError: It is a link to somewhere else.
    """
    path = folder / name
    if not is_file(path):
        raise FileNotFoundError(f"There is no file {shown(str(path))[1:-1]}.")
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise AdapterLoadError(
            f"{path} is a link to {real}, outside of the folder. Put the file itself there if it is meant to be read."
        )
    return path


def _roots(folder: Path) -> list[Path]:
    """Where the files of a folder may really be: in it, or in the cache's store if it is a snapshot in the cache."""
    folder = folder.resolve()
    roots = [folder]
    for snapshot in _snapshots(folder):
        roots += [store for store in blob_stores(snapshot) if not store.is_symlink()]
    return roots


def _snapshots(folder: Path) -> list[Path]:
    """The folder and those that it lies in, as far as each is a repository at a commit in huggingface_hub's cache."""
    return [inner for inner in (folder, *folder.parents) if is_snapshot(inner)]
