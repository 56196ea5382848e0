"""The folder of a run: files are complete or absent, and survive a power cut."""

import shutil
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError

from ..adapter import NestedAdapter
from ..errors import NestedAdapterError
from ..files import CONFIG_NAME
from ..files.jsonl import read_jsonl
from ..files.write_whole import sync, sync_folder

_ADAPTER = ".adapter.partial"
_WEIGHTS = Path(SAFETENSORS_WEIGHTS_NAME).stem


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


def set_adapter_aside(folder: Path) -> Path | None:
    """Move the adapter of a finished run that goes on, so that it is not taken for the new one, which comes at the end.

    Call it before the log of the finished run changes.

    Args:
        folder: Of the run.

    Returns:
        Its new folder, ``after-<steps>``; None if there is no adapter.

    Raises:
        NestedAdapterError: The folder cannot be written; the adapter is where it was.
    """
    if not holds_adapter(folder):
        return None
    rows = read_jsonl(folder / "log.jsonl")
    name = f"after-{rows[-1]['step'] if rows else 'unknown'}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    aside = next(path for path in map(folder.joinpath, names) if not path.exists())
    write_folder(folder / _ADAPTER, lambda to: _copy(_files(folder), to))
    (folder / _ADAPTER).rename(aside)
    sync_folder(folder)  # before the other copy is gone
    remove_adapter(folder)
    return aside


def remove_adapter(folder: Path) -> None:
    """Delete the adapter of a run, of which there is a copy, and leave its other files."""
    for file in _files(folder):
        file.unlink(missing_ok=True)
    sync_folder(folder)


def _files(folder: Path) -> list[Path]:
    """An adapter's files, its configuration first: without it, the rest is no adapter."""
    return [folder / CONFIG_NAME, *folder.glob(f"{_WEIGHTS}*")]


def _copy(files: Sequence[Path], to: Path) -> None:
    to.mkdir()
    for file in files:
        shutil.copy2(file, to)


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
