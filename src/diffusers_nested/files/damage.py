"""Damaged downloads: cached files that differ from the Hub's. Only for those does downloading again help."""

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
    """Extend an ``AdapterLoadError`` raised inside if a file was damaged during the download or on the disk.

    Args:
        *folders: The folders with the files; only folders in the Hub's cache are examined.

    Raises:
        AdapterLoadError: The original error, plus the damaged file's name and the remedy ``force_download=True``; or a
            file cannot be read.
    """
    try:
        yield
    except AdapterLoadError as error:
        damaged = next((path.name for folder in folders for path in _files(folder) if not _is_as_published(path)), None)
        if damaged is None:
            raise
        raise AdapterLoadError(
            f"{error} The download of {damaged} is damaged: it differs from the file on the Hub. Pass "
            "force_download=True to download it again."
        ) from error
    except OSError as error:
        raise AdapterLoadError(f"A file in {folders[0]} cannot be read: {error}. Save or copy it again.") from error


def _files(folder: Path) -> list[Path]:
    is_here = is_download(folder) and folder.is_dir()
    return sorted(path for path in folder.iterdir() if path.suffix in _READ) if is_here else []


def _is_as_published(path: Path) -> bool:
    """Whether a file has the hash that the Hub gave for it; the cache names files by it. True without such a name."""
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    is_hash = len(name) in (40, 64) and set(name) <= set("0123456789abcdef")
    return not is_hash or _hashed(path, len(name)) == name


def _hashed(path: Path, length: int) -> str:
    """SHA-256 for large files; for files in git, the SHA-1 that git computes."""
    hashed = hashlib.sha256()
    if length == 40:
        hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            hashed.update(part)
    return hashed.hexdigest()
