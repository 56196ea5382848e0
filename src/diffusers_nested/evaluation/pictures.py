"""Where the pictures of a comparison are kept."""

import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ..errors import NestedAdapterError
from .contestants import Contestant
from .references import Reference
from .shots import Shot

FOLDER, PHOTOS = "pictures", "photos"


def picture_name(contestant: Contestant, scale: float, shot: Shot) -> str:
    """Path of a picture within the folder of the comparison."""
    where = f"{FOLDER}/{contestant.name}/{scale:g}/{shot.reference.name}"
    return f"{where}/prompt-{shot.prompt_index + 1:02d}-seed-{shot.seed}.png"


def photo_names(reference: Reference) -> dict[str, list[str]]:
    """Word -> paths of the subject's photos within the folder of the comparison."""
    return {
        word: [f"{PHOTOS}/{reference.name}/word-{i + 1}-photo-{j + 1}.png" for j in range(len(images))]
        for i, (word, images) in enumerate(reference.images.items())
    }


def save_photos(folder: Path, reference: Reference) -> None:
    """Keep the subject's photos with the results, as they were read."""
    for word, names in photo_names(reference).items():
        for name, photo in zip(names, reference.photos(word), strict=True):
            save(folder / name, photo)


def save(path: Path, picture: Image.Image) -> None:
    """Write a picture that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    picture.save(partial, format="PNG")
    partial.replace(path)


def load(path: Path) -> Image.Image:
    """A picture that was kept."""
    with Image.open(path) as image:
        return image.convert("RGB")


def check_names(what: str, names: Iterable[str]) -> None:
    """Raise unless names can be parts of paths.

    Raises:
        NestedAdapterError: Names the one that cannot.
    """
    for name in names:
        if not re.fullmatch(r"\w[\w.@ -]*", name):
            raise NestedAdapterError(
                f"{name!r} cannot be the name of a {what}, as files are called by it. Use letters, digits and any of "
                "'_.@ -'."
            )
