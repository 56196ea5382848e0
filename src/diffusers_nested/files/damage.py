"""Damaged downloads: cached files that differ from the Hub's. Only for those does downloading again help."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..compat import is_as_downloaded
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
        damaged = next((path.name for folder in folders for path in _files(folder) if not is_as_downloaded(path)), None)
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
