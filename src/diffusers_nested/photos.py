"""Photos from files, which may come from anywhere."""

import struct
import warnings
from os import PathLike

from PIL import Image, ImageOps

from .errors import SubjectError

MAX_ASPECT = 200  # a picture is resized by its shorter side: one pixel high and 10⁷ wide, it would fill the memory
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError, struct.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def open_photo(file: str | PathLike[str]) -> Image.Image:
    """Read a picture, upright as its EXIF says.

    Args:
        file: Its path.

    Returns:
        The picture, wholly read, in its own mode.

    Raises:
        SubjectError: There is no such file, it is no picture or a damaged one, or it has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                _check_aspect(image, file)
                image.load()
                return ImageOps.exif_transpose(image)
    except _BOMBS as error:
        raise SubjectError(
            f"The image {str(file)!r} is too large to be safe ({error}) Make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except SubjectError:
        raise
    except _DAMAGED as error:
        raise SubjectError(f"Cannot read the image {str(file)!r}: {error}. Give a whole picture file.") from error


def _check_aspect(image: Image.Image, file: str | PathLike[str]) -> None:
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise SubjectError(
            f"The image {str(file)!r} has {image.width} x {image.height} pixels: one side may be at most {MAX_ASPECT} "
            "times the other. Cut out the part that matters."
        )
