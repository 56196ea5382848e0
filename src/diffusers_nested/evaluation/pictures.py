"""The files of pictures in a comparison's folder."""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ..errors import NestedAdapterError
from ..files.write_whole import write_whole
from ..images import open_photo, to_pil
from .contestants import Contestant
from .references import Reference
from .shots import Shot

FOLDER, PHOTOS = "pictures", "photos"
_END = b"IEND\xaeB`\x82"  # the end of every PNG
_LONGEST = 200  # bytes of a name; file systems allow 255


def picture_name(contestant: Contestant, scale: float, shot: Shot) -> str:
    """Path of a picture within the comparison's folder."""
    where = f"{FOLDER}/{contestant.name}/{scale:g}/{shot.reference.name}"
    return f"{where}/prompt-{shot.prompt_index + 1:02d}-seed-{shot.seed}.png"


def photo_names(reference: Reference) -> dict[str, list[str]]:
    """Word -> paths of the subject's photos within the comparison's folder."""
    return {
        word: [f"{PHOTOS}/{reference.name}/word-{i + 1}-photo-{j + 1}.png" for j in range(len(images))]
        for i, (word, images) in enumerate(reference.images.items())
    }


def save_photos(folder: Path, reference: Reference) -> None:
    """Save the subject's photos with the results."""
    for word, names in photo_names(reference).items():
        for name, photo in zip(names, reference.photos(word), strict=True):
            save(folder / name, photo)


def save(path: Path, picture: Image.Image) -> None:
    """Write a picture atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_whole(path, buffer.getvalue())


def load(path: Path) -> Image.Image:
    """Load a saved picture.

    Raises:
        SubjectError: It cannot be read.
    """
    return to_pil(open_photo(path))


def is_kept(path: Path) -> bool:
    """Whether a complete picture is there."""
    if not path.is_file() or path.stat().st_size < len(_END):
        return False
    with path.open("rb") as file:
        file.seek(-len(_END), os.SEEK_END)
        return file.read() == _END


def check_names(what: str, names: Iterable[str]) -> None:
    """Raise unless names can be parts of paths.

    Raises:
        NestedAdapterError: One cannot; the message names it.
    """
    for name in names:
        if not re.fullmatch(r"\w[\w.@ -]*", name) or len(name.encode()) > _LONGEST:
            raise NestedAdapterError(
                f"{name!r} cannot be the name of a {what}, because it becomes part of file names. Use letters, digits "
                f"and any of '_.@ -', at most {_LONGEST} bytes."
            )
