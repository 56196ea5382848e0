"""Names: the photos of a folder, the files that become of them, and which process takes which photo."""

import hashlib
import os
from pathlib import Path

from ..errors import NestedAdapterError
from .reject import Reason, Reject

INPUTS, TARGETS = "inputs", "targets"
FILES = ("input_file_name", "file_name")  # columns of an example that name files
WORK = ".prepare"  # the notes of a preparation, in its training set
# Pictures of all kinds that cameras and phones write; those that cannot be read are among the rejects.
_PHOTOS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".jp2", ".dng"),
)
_LONGEST = 230  # bytes of a file's name: file systems allow 255, and a file being written has a longer one


def find_photos(source: Path, output: Path) -> list[str]:
    """Paths of all photos within a folder, sorted; hidden files and training sets made here are left out.

    Raises:
        NestedAdapterError: There is no such folder, it lies within the output folder, or it holds no photo.
    """
    if not source.is_dir():
        what = "a file" if source.exists() else "not there"
        raise NestedAdapterError(f"SOURCE {source} is {what}, expected a folder of photos.")
    if source.resolve().is_relative_to(output.resolve()):
        raise NestedAdapterError(f"SOURCE {source} lies in OUT {output}. Name another folder for the training set.")
    names = sorted(_walk(source, output.resolve()))
    if not names:
        raise NestedAdapterError(f"SOURCE {source} holds no photo, that is no file with an ending such as .jpg.")
    return names


def _walk(source: Path, output: Path) -> list[str]:
    names = []
    for folder, folders, files in os.walk(source, onerror=_refuse):
        here = Path(folder)
        folders[:] = [one for one in folders if not one.startswith(".") and not _is_set(here / one, output)]
        names += [
            (here / one).relative_to(source).as_posix()
            for one in files
            if one.lower().endswith(_PHOTOS) and not one.startswith(".")
        ]
    return names


def _is_set(folder: Path, output: Path) -> bool:
    return folder.resolve() == output or (folder / WORK).is_dir()


def _refuse(error: OSError) -> None:
    raise NestedAdapterError(f"A folder of SOURCE cannot be read: {error}. Make it readable.") from error


def share_of(names: list[str], index: int, count: int) -> list[str]:
    """The photos that one of several processes takes: it follows from a photo's name and the number of processes."""
    return [name for name in names if _number(name) % count == index]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")


def shown_name(name: str) -> str:
    """A photo's name as valid text, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_name(name: str) -> None:
    """Raise unless files can be named after a photo.

    Raises:
        Reject: They cannot.
    """
    if shown_name(name) != name:
        raise Reject(Reason.BAD_NAME, "not in UTF-8")
    length = len(name.rpartition("/")[2].encode())
    if length > _LONGEST:
        raise Reject(Reason.BAD_NAME, f"{length} bytes, expected at most {_LONGEST}")


def input_name(name: str, number: int) -> str:
    """Path of an input image in the training set; a photo with several faces has several."""
    return f"{INPUTS}/{name}-{number}.png"


def target_name(name: str) -> str:
    """Path of a target image in the training set."""
    return f"{TARGETS}/{name}"
