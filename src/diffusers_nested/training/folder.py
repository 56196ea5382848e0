"""The folder of a run: one run at a time, and files that are there whole and outlast a power cut."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ..adapter import NestedAdapter
from ..adapter_files import CONFIG_NAME
from ..errors import NestedAdapterError
from ..jsonl import sync_folder

_LOCK = ".lock"
_PATIENCE = 10.0  # seconds: workers of a run that was killed hold its lock until they notice
_ADAPTER = ".adapter.partial"


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be, and removed again if nothing was written to it.

    Raises:
        NestedAdapterError: Another run is in it, or it cannot be written to.
    """
    is_new = not folder.exists()
    lock = FileLock(folder / _LOCK, timeout=_PATIENCE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise NestedAdapterError(
            f"Another run is training in {folder}. Wait for it, stop it, or choose another output_dir."
        ) from error
    except OSError as error:
        raise NestedAdapterError(f"Cannot write to output_dir {folder}: {error}. Choose another one.") from error
    try:
        yield
    finally:
        lock.release()
        if is_new and [path.name for path in folder.iterdir()] == [_LOCK]:
            shutil.rmtree(folder)


def holds_adapter(folder: Path) -> bool:
    """Whether a run has ended in the folder."""
    return (folder / CONFIG_NAME).is_file()


def save_adapter(folder: Path, adapter: NestedAdapter) -> None:
    """Save an adapter among the other files of a run, its configuration last."""
    partial = folder / _ADAPTER
    write_folder(partial, adapter.save_pretrained)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == CONFIG_NAME):
        path.replace(folder / path.name)
    partial.rmdir()
    sync_folder(folder)


def write_folder(folder: Path, *writers: Callable[[Path], object]) -> None:
    """Have a folder written anew, and see to it that it is on the disk.

    Raises:
        NestedAdapterError: It cannot be written, as on a full disk; what was written of it is gone.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for write in writers:
            write(folder)
        _sync(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own
        shutil.rmtree(folder, ignore_errors=True)
        raise NestedAdapterError(
            f"Cannot write {folder}: {error}. See to space and permissions, then go on from the last checkpoint with "
            "resume_from_checkpoint='latest'."
        ) from error


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
