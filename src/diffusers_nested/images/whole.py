"""Whether the file of a picture is whole, without decoding it."""

import os
import warnings
from os import PathLike

from PIL import Image, UnidentifiedImageError

from .checks import BOMBS, DAMAGED
from .photos import FORMATS, open_photo

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


def check_whole(file: str | PathLike[str]) -> None:
    """Raise if a picture is damaged, as far as its head and its end show: not that of another kind, and not cut off.

    Only files that do not end as usual are decoded, so it takes little time for many of them.

    Raises:
        SubjectError: Like ``open_photo``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                kind = image.format
        is_whole = _ends_well(file, kind or "")
    except (OSError, UnidentifiedImageError, *BOMBS, *DAMAGED):
        is_whole = False
    if not is_whole:
        open_photo(file)  # the error, with what is wrong; or it is whole all the same


def _ends_well(file: str | PathLike[str], kind: str) -> bool:
    with open(file, "rb") as opened:
        if kind == "WEBP":  # whose head has its length
            return os.fstat(opened.fileno()).st_size >= int.from_bytes(opened.read(8)[4:], "little") + 8
        if kind not in _ENDS:
            return False
        opened.seek(-len(_ENDS[kind]), os.SEEK_END)
        return opened.read() == _ENDS[kind]
