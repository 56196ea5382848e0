"""Photos from files or in memory: checked, turned upright and converted to RGB."""

import os
import stat
import warnings
from os import PathLike
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import SubjectError
from .checks import BOMBS, DAMAGED, TOO_LARGE, check_aspect, check_head, check_photo

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # those of photos (MPO is JPEG), as every decoder is a risk
_ORIENTATION = 0x0112  # the EXIF tag; below: its value -> how to turn the stored pixels
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # of these, the values that swap the sides
_TAGGED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where Pillow looks for the tag


def open_photo(file: str | PathLike[str]) -> Image.Image:
    """Read a picture, and turn it upright according to its EXIF data.

    Args:
        file: Its path.

    Returns:
        The loaded picture (the first frame if there are several), in its own mode.

    Raises:
        SubjectError: There is no such file, it is damaged or not in one of ``FORMATS``, or it has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``, sides that differ by more than a factor of ``MAX_ASPECT``, or a mode that
            ``to_pil`` refuses.
    """
    name = f"The image {os.fspath(file)!r}"
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError) as error:
        raise SubjectError(f"{name} cannot be read: {error}. Give a complete picture file.") from error
    if not stat.S_ISREG(mode):  # opening a named pipe would block forever
        raise SubjectError(f"{name} is not a regular file. Give a complete picture file.")
    return read_photo(file, name)


def photo_size(file: str | PathLike[str]) -> tuple[int, int]:
    """Width and height of the upright picture in a file, read from its head.

    Raises:
        SubjectError: Like ``open_photo``, as far as the head shows it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                is_turned = image.getexif().get(_ORIENTATION, 1) in _LYING
                return (image.height, image.width) if is_turned else image.size
    except (*BOMBS, *DAMAGED, UnidentifiedImageError):
        return open_photo(file).size  # or the error, with what is wrong


def read_photo(file: str | PathLike[str] | IO[bytes], name: str) -> Image.Image:
    """Read a picture from a regular file, or from a file in memory; see ``open_photo``.

    Args:
        file: Its path, or the file.
        name: What messages call it.

    Raises:
        SubjectError: Like ``open_photo``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                check_head(image, name)
                check_aspect(image.width, image.height, name)
                image.load()
                return _upright(image)
    except SubjectError:
        raise
    except BOMBS as error:
        raise SubjectError(f"{name} is too large to be safe ({error}) {TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        raise SubjectError(
            f"{name} cannot be read: it is damaged, or not one of {', '.join(FORMATS)}. Convert it to PNG or JPEG, or "
            "open it yourself and give the opened image."
        ) from error
    except DAMAGED as error:
        raise SubjectError(f"{name} cannot be read: {error}. Give a complete picture file.") from error


def to_pil(image: Any, name: str = "The image") -> Image.Image:
    """Convert an image to RGB, upright according to its EXIF data, with transparency on white.

    Args:
        image: A PIL image; a uint8 array (0..255) or a float array (0..1) of shape (H, W) or (H, W, C); or
            such a tensor of shape (C, H, W).
        name: What messages call it.

    Raises:
        SubjectError: Like ``check_photo``.
    """
    check_photo(image, name)
    if not isinstance(image, Image.Image):
        return _from_array(image)
    image = _turned(image, name)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_grey(mask: Image.Image, name: str = "The mask") -> Image.Image:
    """Convert a mask to grey, upright according to its EXIF data; what is transparent is black.

    Raises:
        SubjectError: Its EXIF data are damaged.
    """
    mask = _turned(mask, name)
    if mask.has_transparency_data:
        mask = mask.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask).convert("L")
    return mask.convert("L")


def _turned(image: Image.Image, name: str) -> Image.Image:
    try:
        return _upright(image)
    except DAMAGED as error:
        raise SubjectError(f"{name} has damaged EXIF data: {error}. Save the picture without it.") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say, and drop them, as Pillow keeps the tag in copies and crops too."""
    method = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = {key: value for key, value in turned.info.items() if key not in _TAGGED}
    return turned


def _from_array(image: np.ndarray | Tensor) -> Image.Image:
    """Convert a checked array or tensor to RGB."""
    if isinstance(image, Tensor):
        image = image.detach().cpu().movedim(0, -1)
        image = (image.float() if image.is_floating_point() else image).numpy()
    if image.dtype != np.uint8:
        image = np.round(image.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    return to_pil(Image.fromarray(np.ascontiguousarray(image)))
