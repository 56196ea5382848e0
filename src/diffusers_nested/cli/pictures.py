"""Picture files that a command writes: checked before drawing, and printed to standard output."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import NestedAdapterError

if TYPE_CHECKING:
    from PIL import Image

ZOOM = 8  # the miniature's pictures are 32 pixels wide


def enlarged(picture: "Image.Image") -> "Image.Image":
    """A picture of the miniature, large enough to be looked at."""
    from PIL import Image

    return picture.resize((picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.NEAREST)


def picture_files(output: Path, default: Path, count: int = 1, overwrite: bool = False) -> list[Path]:
    """The files for the pictures: ``output``, and next to it files with -2, -3, … in their names.

    Args:
        output: File of the first.
        default: The command's own file, which each run writes anew.
        count: Number of pictures.
        overwrite: Whether other files may be replaced, too.

    Raises:
        NestedAdapterError: A picture cannot be written there, or would replace a file.
    """
    if output.is_dir():
        raise NestedAdapterError(f"--output {output} is a folder. Name a file in it, such as {output / default.name}.")
    if not output.parent.is_dir():
        raise NestedAdapterError(f"--output {output}: there is no folder {str(output.parent)!r}. Create it first.")
    if not os.access(output.parent, os.W_OK):
        raise NestedAdapterError(f"--output {output}: the folder {output.parent} is not writable. Name another.")
    _check_format(output, default)
    files = [output if i == 0 else output.with_stem(f"{output.stem}-{i + 1}") for i in range(count)]
    present = [str(file) for file in files if file.exists()]
    if present and not overwrite and output != default:
        raise NestedAdapterError(f"{', '.join(present)} would be replaced. Name another --output, or add --overwrite.")
    return files


def write_pictures(pictures: Sequence["Image.Image"], files: Sequence[Path]) -> None:
    """Write each picture to its file, and print the file's path."""
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
        sys.stdout.write(f"{file.resolve()}\n")


def _check_format(output: Path, default: Path) -> None:
    from PIL import Image

    kind = Image.registered_extensions().get(output.suffix.lower())
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind or "none")
    except (KeyError, OSError, ValueError) as error:
        raise NestedAdapterError(
            f"--output {output}: a picture's name cannot end in {output.suffix!r}. Use for example {output.stem}"
            f"{default.suffix}."
        ) from error
