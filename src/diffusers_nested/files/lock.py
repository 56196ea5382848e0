"""One piece of work at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import NestedAdapterError

LOCK = ".lock"


@contextmanager
def held(folder: Path, what: str, setting: str, patience: float = 0.0) -> Iterator[None]:
    """Keep others out of a folder, which is made if need be, and removed again if nothing was written to it.

    The system keeps the lock for as long as the process lives: what is left of one that was killed does not count.

    Args:
        folder: The folder.
        what: What works in it, for the message: ``"run"``.
        setting: What names the folder, for the message: ``"output_dir"``.
        patience: Seconds to wait for it.

    Raises:
        NestedAdapterError: Something else works in it, or it cannot be written to.
    """
    is_new, lock = not folder.exists(), FileLock(folder / LOCK, timeout=patience)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise NestedAdapterError(
            f"Another {what} works in {folder}. Wait for its end, stop it, or choose another {setting}."
        ) from error
    except (OSError, NotImplementedError) as error:  # the latter where files cannot be locked
        raise NestedAdapterError(f"Cannot write to {setting} {folder}: {error}. Choose another one.") from error
    try:
        yield
    finally:
        lock.release()
        left = [path.name for path in folder.iterdir()] if is_new else None
        if left in ([], [LOCK]):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
