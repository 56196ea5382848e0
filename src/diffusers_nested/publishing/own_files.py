"""Files in the folder to publish: only those that are really in it and can be read."""

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
        PublishError: It is a link out of the folder, is not a regular file, or cannot be opened.
    """
    path = folder / name
    try:
        if not path.is_file():
            raise PublishError(f"{path} is {_kind(path)}, not a file. Replace it by a file, or remove it.")
        file_in(folder, name)
        with path.open("rb"):
            return path
    except AdapterLoadError as error:
        raise PublishError(f"{error} Or remove the link.") from error
    except OSError as error:
        raise PublishError(f"{path} cannot be read ({error}). Make it readable, or remove it.") from error


def check_folder(folder: Path, name: str) -> None:
    """Raise unless a subfolder is really in the folder.

    Raises:
        PublishError: It is a link out of the folder.
    """
    real = (folder / name).resolve()
    if not real.is_relative_to(folder.resolve()):
        raise PublishError(
            f"{folder / name} is a link to {real}, outside of the folder. Replace the link by the folder itself, or "
            "remove it."
        )


def read_text(path: Path) -> str:
    """The content of a text file of bounded size, with Unix line ends.

    Raises:
        PublishError: It is too large, or not UTF-8.
    """
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise PublishError(f"{path} has {size} bytes, more than the {MAX_TEXT_BYTES} allowed. Make it smaller.")
    return decoded(path.read_bytes(), str(path))


def decoded(data: bytes, where: str) -> str:
    """Decode the content of a text file, with Unix line ends.

    Raises:
        PublishError: It is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PublishError(f"{where} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_own_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        PublishError: It is too large, is not JSON, or is nested too deeply.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
        json.dumps(value)  # it may have to be written again
        return value
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise PublishError(f"{path} is not JSON ({reason}). Save it again, or remove it from the folder.") from error


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"a broken link to {os.readlink(path)}"
    return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "something else")
