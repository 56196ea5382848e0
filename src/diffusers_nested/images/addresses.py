"""Pictures by their path or by their address in the net, as diffusers' ``load_image`` takes them."""

import os
import re
from io import BytesIO
from os import PathLike

import requests
from PIL import Image

from ..compat import request_timeout
from ..errors import SubjectError
from .photos import open_photo, read_photo

MAX_DOWNLOAD = 256 * 2**20  # bytes of a picture from the net, which a server may make as many as it likes
_ENDING = re.compile(r"\.\w{1,5}$")  # of a file's name, in which a text does not end


def open_address(address: str | PathLike[str]) -> Image.Image:
    """Read a picture from a path, or from a URL that begins with ``http://`` or ``https://``; see ``open_photo``.

    Raises:
        SubjectError: There is no picture at this path or address, or it cannot be used.
    """
    name = os.fsdecode(address)
    if name.lower().startswith(("http://", "https://")):
        return read_photo(BytesIO(_download(name)), f"The image {name!r}")
    if os.path.isdir(name):
        raise SubjectError(f"{name!r} is a folder, expected an image file. Give a list of the photos in it.")
    if os.path.exists(name):
        return open_photo(name)
    remedy = "Check the path, or give the image itself."
    if " " in name and not _ENDING.search(name):
        remedy = "It reads like a text: that goes into `prompt`, and the subject's word into nested_adapter_token."
    shown = name if len(name) <= 200 else f"{name[:200]}…"
    raise SubjectError(
        f"There is no image file {shown!r}, nor is it an address that begins with http:// or https://. {remedy}"
    )


def _download(address: str) -> bytes:
    content = bytearray()
    try:
        with requests.get(address, stream=True, timeout=request_timeout()) as answer:
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
    return bytes(content)
