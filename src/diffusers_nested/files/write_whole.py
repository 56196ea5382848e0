"""Files and folders that are there whole or not at all, and outlast a power cut."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file or a folder, which gets its name when all of it is on the disk.

    Args:
        path: Where it goes. A file takes the place of an earlier one; a folder must be new or empty.
        content: Of a file; or what writes the file or folder to the path that it is given.

    Raises:
        OSError: It cannot be written, as on a full disk. Whatever ``content`` raises comes out as it is, too; then
            nothing is left, and an earlier file of that name is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        if callable(content):
            content(partial)
            _sync(partial)
        else:
            with partial.open("wb", buffering=0) as file:
                write_synced(file, content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException:
        _remove(partial)
        raise
    sync_folder(path.parent)


def write_synced(file: Any, data: bytes) -> None:
    """Write all the bytes to an unbuffered file, and see to it that they are on the disk."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the name of a new file outlast a power cut, where folders can be synchronised."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Have a file, or a folder with all that is in it, on the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            _sync(inner)
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
