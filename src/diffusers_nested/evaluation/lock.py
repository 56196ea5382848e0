"""One comparison at a time in a folder."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..errors import NestedAdapterError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
logger = logging.getLogger(__name__)


@contextmanager
def only_user(folder: Path) -> Iterator[None]:
    """A context in which no other comparison works in a folder.

    A file in the folder names the process and its machine, and the system keeps it locked for as long as the process
    lives: what is left of one that was killed does not count. Where files cannot be locked, the process is looked for.

    Args:
        folder: Of the comparison; it exists.

    Raises:
        NestedAdapterError: Another comparison works in it, or one on another machine was killed; the message says
            which, and what to delete.
    """
    path = folder / LOCK
    file, is_locked = _opened(path)
    with file:
        holder = _read(file)
        if not _is_free(holder, is_locked):
            raise NestedAdapterError(
                f"Another comparison works in {folder}: {_named(holder)}. Wait for its end, or take another folder. If "
                f"you know that it no longer runs, delete {path}."
            )
        if holder:
            logger.info("going on after %s, which did not come to its end", _named(holder))
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            if os.name == "posix":  # elsewhere an open file cannot be deleted, and is left empty
                path.unlink(missing_ok=True)


def _opened(path: Path) -> tuple[TextIO, bool | None]:
    """The file, and whether it could be locked: False where somebody else has, None where files cannot be."""
    while True:
        file = path.open("a+", encoding="utf-8")
        is_locked = _lock(file)
        # whoever had it may have deleted it meanwhile: a lock on a file without a name keeps nobody out
        if not is_locked or (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
            return file, is_locked
        file.close()


def _lock(file: TextIO) -> bool | None:
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _read(file: TextIO) -> dict[str, Any]:
    """Who is at work; nobody if that is not to be read."""
    file.seek(0)
    try:
        holder = json.loads(file.read(1000))
    except (ValueError, RecursionError):
        return {}
    is_whole = isinstance(holder, dict) and isinstance(holder.get("process"), int) and "host" in holder
    return holder if is_whole else {}


def _is_free(holder: dict[str, Any], is_locked: bool | None) -> bool:
    if is_locked is False:
        return False
    if not holder:
        return True
    # another machine's lock may not be seen here, whatever the file system promises
    return holder["host"] == socket.gethostname() and (is_locked is True or not _lives(holder["process"]))


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # asking would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder['process']} on {holder['host']}" if holder else "a process that has just begun"
