"""Pictures of a training set as tensors."""

from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..images import open_photo, to_pil


def load_image(image: Any) -> Image.Image:
    """A path, or any image that ``to_pil`` takes, as an upright RGB picture.

    Raises:
        SubjectError: There is no such file, it is no picture or too large a one, or it is neither a path nor an image.
    """
    return to_pil(open_photo(image) if isinstance(image, str | PathLike) else image)


def to_pixels(image: Any, resolution: int) -> Tensor:
    """A target image as (3, resolution, resolution) in -1..1: resized to fill the square, cut at its centre."""
    fitted = ImageOps.fit(load_image(image), (resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1
