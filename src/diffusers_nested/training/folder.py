"""The folder of a run: files are complete or absent, and survive a power cut."""

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ..adapter import NestedAdapter
from ..errors import NestedAdapterError
from ..files import CONFIG_NAME
from ..files.write_whole import sync, sync_folder

_ADAPTER = ".adapter.partial"


def holds_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, as after a finished run."""
    return (folder / CONFIG_NAME).is_file()


def save_adapter(folder: Path, adapter: NestedAdapter) -> None:
    """Save an adapter beside the other files of a run, its configuration last."""
    partial = folder / _ADAPTER
    write_folder(partial, adapter.save_pretrained)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == CONFIG_NAME):
        path.replace(folder / path.name)
    partial.rmdir()
    sync_folder(folder)


def write_folder(folder: Path, *writers: Callable[[Path], object]) -> None:
    """Write a folder from scratch, and sync it to the disk.

    Raises:
        NestedAdapterError: It cannot be written, for example on a full disk; the part that was written is gone.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for write in writers:
            write(folder)
        sync(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own
        shutil.rmtree(folder, ignore_errors=True)
        raise NestedAdapterError(
            f"Cannot write {folder}: {error}. Check space and permissions, then resume from the last checkpoint with "
            "resume_from_checkpoint='latest'."
        ) from error
