"""Checks where and how a user wants the subjects' keys and values to be kept."""

from typing import Any

import torch

from ..errors import NestedAdapterError
from ..injection import Storage
from ..injection.storage import EIGHT_BITS


def checked_storage(device: Any, dtype: Any) -> Storage:
    """The storage that a user asks for.

    Raises:
        NestedAdapterError: There is no such device, or the type is not one of 8 bits.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in EIGHT_BITS):
        names = " or ".join(map(str, EIGHT_BITS))
        raise NestedAdapterError(
            f"The subjects' keys and values cannot be stored as {dtype!r}, expected {names}. Pass dtype=None to keep "
            "them in the UNet's type."
        )
    return Storage(None if device is None else _existing(device), dtype)


def _existing(device: Any) -> torch.device:
    try:
        # an index, such as that of the current GPU, which a device may leave out
        found = torch.empty(0, device=device).device
    # the last two if torch was built without the device
    except (RuntimeError, TypeError, ValueError, AssertionError, ImportError) as error:
        found = error
    if isinstance(found, Exception) or found.type == "meta":
        raise NestedAdapterError(
            f"The subjects' keys and values cannot be kept on the device {device!r}, expected one that this machine "
            'has, such as "cpu". Pass device=None to keep them on the UNet\'s device.'
        )
    return found
