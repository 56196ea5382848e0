"""Photos from files, which may come from anywhere."""

import os
import re
import struct
import warnings
from io import BytesIO
from os import PathLike

import requests
from diffusers.utils.constants import DIFFUSERS_REQUEST_TIMEOUT
from PIL import Image, ImageOps

from .errors import SubjectError

MAX_ASPECT = 200  # a picture is resized by its shorter side: one pixel high and 10⁷ wide, it would fill the memory
MAX_DOWNLOAD = 256 * 2**20  # bytes of a picture from the net, which a server may make as many as it likes
_ENDING = re.compile(r"\.\w{1,5}$")  # of a file's name, in which a text does not end
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError, struct.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class _Download(BytesIO):
    """A file from the net, which goes by its address in messages."""

    def __init__(self, address: str, content: bytes) -> None:
        super().__init__(content)
        self._address = address

    def __str__(self) -> str:
        return self._address


def open_address(address: str | PathLike[str]) -> Image.Image:
    """Read a picture from a path, or from a URL that begins with ``http://`` or ``https://``; see ``open_photo``.

    Raises:
        SubjectError: There is no picture at this path or address, or it cannot be used.
    """
    name = os.fsdecode(address)
    if name.lower().startswith(("http://", "https://")):
        return open_photo(_download(name))
    if os.path.isfile(name):
        return open_photo(name)
    if os.path.isdir(name):
        raise SubjectError(f"{name!r} is a folder, expected an image file. Give a list of the photos in it.")
    remedy = "Check the path, or give the image itself."
    if " " in name and not _ENDING.search(name):
        remedy = "It reads like a text: that goes into `prompt`, and the subject's word into nested_adapter_token."
    shown = name if len(name) <= 200 else f"{name[:200]}…"
    raise SubjectError(
        f"There is no image file {shown!r}, nor is it an address that begins with http:// or https://. {remedy}"
    )


def open_photo(file: str | PathLike[str] | BytesIO) -> Image.Image:
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


def _download(address: str) -> _Download:
    content = bytearray()
    try:
        with requests.get(address, stream=True, timeout=DIFFUSERS_REQUEST_TIMEOUT) as answer:
            answer.raise_for_status()
            for part in answer.iter_content(2**20):
                content += part
                if len(content) > MAX_DOWNLOAD:
                    raise SubjectError(
                        f"The image at {address!r} has more than {MAX_DOWNLOAD} bytes. Give a smaller one, or "
                        "download it and give its path."
                    )
    except requests.RequestException as error:
        raise SubjectError(
            f"Cannot get the image at {address!r}: {error}. Check the address, or download it and give its path."
        ) from error
    return _Download(address, bytes(content))


def _check_aspect(image: Image.Image, file: str | PathLike[str] | BytesIO) -> None:
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise SubjectError(
            f"The image {str(file)!r} has {image.width} x {image.height} pixels: one side may be at most {MAX_ASPECT} "
            "times the other. Cut out the part that matters."
        )
