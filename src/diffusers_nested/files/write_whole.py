"""Atomic writes: a file or folder appears complete or not at all, even after a power cut."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file or folder under a temporary name, and rename it once all of it is on the disk.

    If anything fails, nothing is left behind, and an earlier file of that name is unchanged.

    Args:
        path: The final path. An existing file is replaced; an existing folder must be empty.
        content: The content of a file, or a function that writes the file or folder to the path it is given.

    Raises:
        OSError: It cannot be written, for example on a full disk. Errors of ``content`` are passed on.
    """
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        if callable(content):
            content(partial)
            sync(partial)
        else:
            with partial.open("wb", buffering=0) as file:
                write_synced(file, content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException:
        _remove(partial)
        raise
    sync_folder(path.parent)


def write_synced(file: Any, data: bytes) -> None:
    """Write all bytes to an unbuffered file, and flush them to the disk."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut, where the system can flush folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file, or a folder with everything in it, to the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
