"""Safe paths: files that really are in their folder, and unambiguous names."""

import posixpath
import re
from os import PathLike, fspath
from pathlib import Path

from ..compat import blob_stores, snapshots_around
from ..errors import AdapterLoadError
from .json_files import shown

CONFIG_NAME = "config.json"
# user/name, as on the Hub; not a bare name, a path or a file
_REPOSITORY = re.compile(r"(?!.*(--|\.\.|\.git$))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)


def is_folder(path: str | PathLike[str]) -> bool:
    """Whether this is an existing folder; False for names that no file system accepts, and for the empty name."""
    try:
        return bool(fspath(path)) and Path(path).is_dir()
    except OSError:
        return False


def is_file(path: str | PathLike[str]) -> bool:
    """Like ``is_folder``, for files."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def is_download(folder: Path) -> bool:
    """Whether a folder is, or lies in, a repository in huggingface_hub's cache, so that its files are a stranger's."""
    return bool(snapshots_around(folder.absolute()))


def plain_path(name: str | PathLike[str] | None, what: str = "subfolder") -> str | None:
    """Normalize a path within a folder: ``./people/`` becomes ``people``, the folder itself becomes None.

    Args:
        name: The path as the user wrote it.
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
    """Raise unless a name that is no local folder can be a repository id; no server is contacted.

    Raises:
        AdapterLoadError: It is a file, or not a valid repository id.
    """
    if is_file(name):
        raise AdapterLoadError(
            f"{name} is a file. Give the folder with the adapter's config.json, and the file as "
            f"weight_name={Path(name).name!r}."
        )
    if not _REPOSITORY.fullmatch(name):
        raise AdapterLoadError(
            f"There is no folder {shown(name)} here, and it is not a repository id such as 'user/name' either."
        )


def file_in(folder: Path, name: str) -> Path:
    """The path of a file that lies in a folder even after following links.

    A downloaded repository is a folder of links into huggingface_hub's cache; those links are allowed.

    Raises:
        FileNotFoundError: There is no such file.
        AdapterLoadError: It is a link that leads out of the folder.
    """
    path = folder / name
    if not is_file(path):
        raise FileNotFoundError(f"There is no file {shown(str(path))[1:-1]}.")
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise AdapterLoadError(
            f"{path} is a link to {real}, outside of the folder. Replace the link by the file itself."
        )
    return path


def _roots(folder: Path) -> list[Path]:
    """Where links in a folder may lead: into the folder, or into the cache's store if it is a cached repository."""
    folder = folder.resolve()
    roots = [folder]
    for snapshot in snapshots_around(folder):
        roots += [store for store in blob_stores(snapshot) if not store.is_symlink()]
    return roots
