"""The pictures in what a pipeline's call returned."""

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import NestedAdapterError
from ..images import to_pil


def picture_in(output: Any, number: int) -> Image.Image | None:
    """One picture of an output, or one frame of its videos; None if it has none, as with latents.

    Args:
        output: What the call returned: an object with ``images`` or ``frames``, or a tuple that begins with them.
        number: Which; all frames of the first video come before those of the second.
    """
    frames = getattr(output, "frames", None)
    found = getattr(output, "images", frames)
    if found is None and isinstance(output, tuple) and output:
        found = output[0]
    if found is None or isinstance(found, str):
        return None
    pictures = _flat(found)
    if number >= len(pictures):
        return None
    found = pictures[number]
    if isinstance(found, Tensor) and found.shape[0] not in (1, 3):
        return None  # latents
    try:
        return to_pil(found)
    except NestedAdapterError:  # latents, or no picture at all
        return None


def _flat(found: Any) -> list[Any]:
    """Pictures one by one, from a list, a list of videos, or an array of either."""
    if isinstance(found, np.ndarray | Tensor):
        return list(found.reshape(-1, *found.shape[2:])) if found.ndim == 5 else list(found)
    parts = list(found) if isinstance(found, list | tuple) else []
    return [one for part in parts for one in (_flat(part) if _is_video(part) else [part])]


def _is_video(part: Any) -> bool:
    return isinstance(part, list | tuple) or (isinstance(part, np.ndarray | Tensor) and part.ndim == 4)
