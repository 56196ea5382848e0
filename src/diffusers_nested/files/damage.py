"""Downloads that are not what the Hub has: said so only where it is so, as nobody else can mend what is published."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..compat import is_as_downloaded
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
        damaged = next((path.name for folder in folders for path in _files(folder) if not is_as_downloaded(path)), None)
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
