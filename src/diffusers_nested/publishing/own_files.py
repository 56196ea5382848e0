"""Files of the folder that somebody publishes: only those that are really in it, and that can be read."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError, PublishError
from ..files import file_in

MAX_TEXT_BYTES = 10 * 2**20  # a card, a configuration or an evaluation has some thousand
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def own_file(folder: Path, name: str) -> Path:
    """The path of a file of the folder.

    Raises:
        PublishError: It is a link that leaves the folder, no regular file, or cannot be opened.
    """
    path = folder / name
    try:
        if not path.is_file():
            raise PublishError(f"{path} is {_kind(path)}, not a file. Put a file in its place, or take it out.")
        file_in(folder, name)
        with path.open("rb"):
            return path
    except AdapterLoadError as error:
        raise PublishError(f"{error} Or take the link out.") from error
    except OSError as error:
        raise PublishError(f"{path} cannot be read ({error}). Make it readable, or take it out.") from error


def check_folder(folder: Path, name: str) -> None:
    """Raise unless a folder in the folder is really in it.

    Raises:
        PublishError: It is a link that leaves the folder.
    """
    real = (folder / name).resolve()
    if not real.is_relative_to(folder.resolve()):
        raise PublishError(
            f"{folder / name} is a link to {real}, outside of the folder. Put the folder itself there, or take the "
            "link out."
        )


def read_text(path: Path) -> str:
    """A text of bounded size; its lines end with newlines.

    Raises:
        PublishError: It is too large, or not UTF-8.
    """
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise PublishError(f"{path} has {size} bytes, more than the {MAX_TEXT_BYTES} that are read. Make it smaller.")
    return decoded(path.read_bytes(), str(path))


def decoded(data: bytes, where: str) -> str:
    """The text of a file; its lines end with newlines.

    Raises:
        PublishError: It is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PublishError(f"{where} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_own_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        PublishError: It is too large, no JSON, or nested too deeply.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
        json.dumps(value)  # whoever reads it may have to write it
        return value
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise PublishError(f"{path} is not JSON ({reason}). Save it again, or take it out of the folder.") from error


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {os.readlink(path)}, where no file is"
    return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "something else")
