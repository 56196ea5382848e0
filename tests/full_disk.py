"""A disk that runs full, for rows and files that we write."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from diffusers_nested.files import jsonl, write_whole


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """So many bytes can be written, and of the write across them a part."""
    left = size

    def write(file: Any, data: bytes) -> None:
        nonlocal left
        part = data[:left]
        left -= len(part)
        file.write(part)
        if len(part) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "write_synced", write)
        patch.setattr(write_whole, "write_synced", write)
        yield
