"""Locks that keep a folder to one process at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import NestedAdapterError

LOCK = ".lock"


@contextmanager
def held(folder: Path, what: str, setting: str, patience: float = 0.0) -> Iterator[None]:
    """Lock a folder. It is created if necessary, and removed again if nothing was written to it.

    The operating system holds the lock only while the process lives, so a killed process leaves none behind.

    Args:
        folder: The folder.
        what: What uses the folder, for the message: ``"run"``.
        setting: The setting that names the folder, for the message: ``"output_dir"``.
        patience: Seconds to wait for the lock.

    Raises:
        NestedAdapterError: Another process holds the lock, or the folder is not writable.
    """
    is_new, lock = not folder.exists(), FileLock(folder / LOCK, timeout=patience)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise NestedAdapterError(
            f"Another {what} works in {folder}. Wait until it ends, stop it, or choose another {setting}."
        ) from error
    except (OSError, NotImplementedError) as error:  # the latter on file systems without locks
        raise NestedAdapterError(f"Cannot write to {setting} {folder}: {error}. Choose another one.") from error
    try:
        yield
    finally:
        lock.release()
        left = [path.name for path in folder.iterdir()] if is_new else None
        if left in ([], [LOCK]):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def check_holdable(folder: Path, setting: str) -> None:
    """Raise if ``held`` could not lock a folder, as far as this can be seen without writing.

    Raises:
        NestedAdapterError: It is a file, or in a place that is not writable.
    """
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        what = "is not writable" if place.is_dir() else "is no folder"
        raise NestedAdapterError(f"Cannot write to {setting} {folder}: {place} {what}. Choose another one.")
