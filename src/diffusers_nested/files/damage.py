"""Downloads that are not what the Hub has: said so only where it is so, as nobody else can mend what is published."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import AdapterLoadError
from .paths import is_download

_READ = (".json", ".safetensors")


@contextmanager
def damaged_downloads(*folders: Path) -> Iterator[None]:
    """Name the remedy in what is wrong with a model's files, if one of them was damaged on its way or on the disk.

    Args:
        *folders: Of the files; those that are not from the Hub are not looked at.

    Raises:
        AdapterLoadError: The one that was raised, with the damaged file's name and ``force_download=True``; or a file
            cannot be read.
    """
    try:
        yield
    except AdapterLoadError as error:
        damaged = next((path.name for folder in folders for path in _files(folder) if not _is_as_published(path)), None)
        if damaged is None:
            raise
        raise AdapterLoadError(
            f"{error} The download of {damaged} is damaged: it is not what the Hub has. Pass force_download=True to "
            "fetch it again."
        ) from error
    except OSError as error:
        raise AdapterLoadError(f"A file in {folders[0]} cannot be read: {error}. Save or copy it again.") from error


def _files(folder: Path) -> list[Path]:
    is_here = is_download(folder) and folder.is_dir()
    return sorted(path for path in folder.iterdir() if path.suffix in _READ) if is_here else []


def _is_as_published(path: Path) -> bool:
    """Whether a file has the hash that the Hub gave for it, as which the cache keeps it; yes if it keeps none."""
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    is_hash = len(name) in (40, 64) and set(name) <= set("0123456789abcdef")
    return not is_hash or _hashed(path, len(name)) == name


def _hashed(path: Path, length: int) -> str:
    """By SHA-256 for large files; for those that git keeps, by SHA-1 as git does."""
    hashed = hashlib.sha256()
    if length == 40:
        hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            hashed.update(part)
    return hashed.hexdigest()
