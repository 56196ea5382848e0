"""Checks of photos in memory, wherever they come from."""

import struct
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import SubjectError

SLACK = 1e-3  # of floats beyond 0 and 1, as resizing and blurring leave them; a step of 8 bits is 4 times as large
MAX_ASPECT = 200  # pictures are resized by the shorter side: one of 1 x 10⁷ pixels would fill the memory
TOO_LARGE = "Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
# What Pillow raises for damaged files, for decompression bombs, and for closed files.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError, struct.error)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_CLOSED = (AssertionError, AttributeError)
_CHANNELS = (1, 3, 4)


def check_photo(image: Any, name: str) -> None:
    """Raise unless an image in memory can be used; an image that is opened but not yet loaded is loaded.

    Args:
        image: In one of the forms that ``to_pil`` accepts.
        name: What messages call it.

    Raises:
        SubjectError: The type, shape, mode or value range is not supported, there are more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``, one side is more than ``MAX_ASPECT`` times the other, or the file of an
            opened image cannot be read completely.
    """
    if isinstance(image, Image.Image):
        check_picture(image, name)
        check_aspect(image.width, image.height, name)
    elif isinstance(image, np.ndarray | Tensor):
        height, width = _check_shape(image, name)
        _check_count(width, height, name)
        check_aspect(width, height, name)
        _check_range(image, name)
    else:
        raise SubjectError(
            f"{name} is a {type(image).__name__}, expected a PIL image, an array (height, width, channels) or a tensor "
            "(channels, height, width). Open a file with PIL.Image.open(path)."
        )


def check_picture(image: Image.Image, name: str) -> None:
    """Raise unless a PIL image has readable 8-bit pixels, and not too many of them; the image is loaded.

    Raises:
        SubjectError: It has none, too many, or pixels of another kind.
    """
    check_head(image, name)
    try:
        image.load()
    except (*DAMAGED, *_CLOSED, *BOMBS) as error:
        raise SubjectError(
            f"{name} was opened but cannot be read: {error or 'its file was closed'}. Give a complete picture file, "
            "and keep it open until the image is used."
        ) from error


def check_head(image: Image.Image, name: str) -> None:
    """Check what is known about a PIL image before its pixels are loaded: their number and mode.

    Raises:
        SubjectError: There are no pixels or too many, or they have more than 8 bits.
    """
    if not all(image.size):
        raise SubjectError(
            f"{name} has {image.width} x {image.height} pixels: it is empty. Give a picture with pixels."
        )
    _check_count(*image.size, name)
    if image.mode in ("I", "F", "La") or image.mode.startswith("I;"):
        raise SubjectError(
            f"{name} is of mode {image.mode!r}, which Pillow would truncate to 8 bits. Save it with 8 bits a "
            "channel, or give an array of floats from 0 to 1; for 16 bits, np.asarray(image) / 65535."
        )


def _check_count(width: int, height: int, name: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise SubjectError(
            f"{name} is too large to be safe: {width} x {height} pixels are more than the {limit} of "
            f"PIL.Image.MAX_IMAGE_PIXELS. {TOO_LARGE}"
        )


def check_aspect(width: int, height: int, name: str) -> None:
    """Raise if one side is more than ``MAX_ASPECT`` times the other.

    Raises:
        SubjectError: It is.
    """
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise SubjectError(
            f"{name} has {width} x {height} pixels: one side may be at most {MAX_ASPECT} times the other. Crop it to "
            "the part that matters."
        )


def _check_shape(image: np.ndarray | Tensor, name: str) -> tuple[int, int]:
    """Height and width."""
    shape = tuple(image.shape)
    if isinstance(image, Tensor):
        fits, expected = len(shape) == 3 and shape[0] in _CHANNELS, "a tensor of shape (channels, height, width)"
        size = shape[1:]
    else:
        fits = len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS)
        size, expected = shape[:2], "an array of shape (height, width) or (height, width, channels)"
    if not fits or 0 in shape:
        raise SubjectError(
            f"{name} has shape {shape}, expected {expected} with 1, 3 or 4 channels. Give several images as a list."
        )
    return size[0], size[1]


def _check_range(image: np.ndarray | Tensor, name: str) -> None:
    expected = "expected uint8 in 0..255 or floats in 0..1"
    is_tensor = isinstance(image, Tensor)
    if is_tensor and (image.is_meta or image.layout != torch.strided):
        raise SubjectError(
            f"{name} is a tensor on {image.device} in layout {image.layout}: it has no pixels to read. Give a dense "
            "tensor with values."
        )
    if image.dtype in (np.uint8, torch.uint8):
        return
    if not (image.is_floating_point() if is_tensor else image.dtype.kind == "f"):
        raise SubjectError(f"{name} holds {image.dtype}, {expected}. Convert it.")
    values = image.detach().float() if isinstance(image, Tensor) else image
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise SubjectError(
            f"{name} holds {image.dtype} from {low:.4g} to {high:.4g}, {expected}. Rescale it, clip it with "
            "`.clip(0, 1)`, or give a PIL image."
        )
