"""Pictures given as a path or URL, as in diffusers' ``load_image``."""

import os
import re
from io import BytesIO
from os import PathLike

import requests
from PIL import Image

from ..compat import request_timeout
from ..errors import SubjectError
from .photos import open_photo, read_photo

MAX_DOWNLOAD = 256 * 2**20  # bytes of a downloaded picture; a server could send any amount
_ENDING = re.compile(r"\.\w{1,5}$")  # of a file name, but not of a prompt


def open_address(address: str | PathLike[str]) -> Image.Image:
    """Read a picture from a path, or from a URL with ``http://`` or ``https://``; see ``open_photo``.

    Raises:
        SubjectError: There is no picture at this path or URL, or it cannot be used.
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
        remedy = "If it is a prompt, pass it as `prompt`, and the subject's word as nested_adapter_token."
    shown = name if len(name) <= 200 else f"{name[:200]}…"
    raise SubjectError(
        f"There is no image file {shown!r}, and it is not a URL with http:// or https:// either. {remedy}"
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
    except SubjectError:
        raise
    except (requests.RequestException, ValueError) as error:  # the latter for hosts that urllib3 refuses
        raise SubjectError(
            f"Cannot download the image at {address!r}: {error}. Check the URL, or download it and give its path."
        ) from error
    return bytes(content)
