"""Pictures of a training set."""

from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..images import open_photo, to_pil


def load_image(image: Any) -> Image.Image:
    """Load a path, or any image that ``to_pil`` takes, as an upright RGB picture.

    Raises:
        SubjectError: The file does not exist, is not a picture, or is too large; or it is neither a path nor an image.
    """
    return to_pil(open_photo(image) if isinstance(image, str | PathLike) else image)


def to_pixels(image: Any, resolution: int) -> Tensor:
    """A target image as (3, resolution, resolution) in -1..1: resized to fill the square and cropped at the centre."""
    fitted = ImageOps.fit(load_image(image), (resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1
