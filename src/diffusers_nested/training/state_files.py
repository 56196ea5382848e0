"""Files of tensors that a run writes for itself: synced when written, checked when read."""

import os
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..errors import NestedAdapterError

# a damaged file can make any part of its reader fail; an OSError is not the file's fault
_READ_ERRORS = (RuntimeError, EOFError, UnpicklingError, ValueError, LookupError, TypeError, AttributeError)


class DamagedFileError(NestedAdapterError):
    """A file is cut off, or differs from what was written."""


def save_state(state: Any, file: Path) -> None:
    """Write a state.

    Raises:
        OSError: It cannot be written, as on a full disk.
    """
    with file.open("wb") as opened:  # opened here, as torch hides the system's error
        try:
            torch.save(state, opened)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise OSError(error.__context__.errno, error.__context__.strerror, str(file)) from error
            raise
        opened.flush()
        os.fsync(opened.fileno())


def load_state(file: Path, mmap: bool = False, is_checked: bool = True) -> Any:
    """Read a state to the CPU.

    Args:
        file: The file.
        mmap: Map it into memory.
        is_checked: Check all checksums, for which the whole file is read.

    Raises:
        DamagedFileError: The message names the file.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch writes such archives but ignores their checksums
            damaged = archive.testzip() if is_checked else None
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except zipfile.BadZipFile as error:
        size = file.stat().st_size
        raise DamagedFileError(f"{file} is cut off or not a state file: it has {size} bytes.") from error
    except _READ_ERRORS as error:
        raise DamagedFileError(f"{file} cannot be read: {type(error).__name__}.") from error
    if damaged is not None:
        raise DamagedFileError(f"{file} is damaged: the checksum of its part {damaged} is wrong.")
    return state
