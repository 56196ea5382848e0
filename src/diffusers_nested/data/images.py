"""Pictures of a training set as tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..encoder import to_pil
from ..errors import NestedAdapterError


def load_image(image: Any) -> Image.Image:
    """A path, or any image that ``to_pil`` takes, as an upright RGB picture.

    Raises:
        NestedAdapterError: There is no such file, or it is no picture.
        SubjectError: It is neither a path nor an image.
    """
    if not isinstance(image, str | Path):
        return to_pil(image)
    try:
        with Image.open(image) as opened:
            return to_pil(ImageOps.exif_transpose(opened))
    except OSError as error:
        raise NestedAdapterError(f"Cannot read the image {image}: {error}") from error


def to_pixels(image: Any, resolution: int) -> Tensor:
    """A target image as (3, resolution, resolution) in -1..1: resized to fill the square, cut at its centre."""
    fitted = ImageOps.fit(load_image(image), (resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1
