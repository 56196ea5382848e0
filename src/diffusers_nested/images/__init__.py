"""Pictures from any source: opened, checked and converted to one form."""

from .addresses import open_address
from .checks import SLACK, check_photo, check_picture
from .photos import open_photo, photo_size, read_photo, to_grey, to_pil
from .whole import check_whole

__all__ = [
    "SLACK",
    "check_photo",
    "check_picture",
    "check_whole",
    "open_address",
    "open_photo",
    "photo_size",
    "read_photo",
    "to_grey",
    "to_pil",
]
