"""Pictures of a training set."""

from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..images import open_photo, photo_size, to_pil
from .packed import PackedPicture


def load_image(image: Any) -> Image.Image:
    """Load a path, a picture of a shard, or any image that ``to_pil`` takes, as an upright RGB picture.

    Raises:
        SubjectError: The file does not exist, is not a picture, or is too large; or it is neither a path nor an image.
    """
    if isinstance(image, PackedPicture):
        return to_pil(image.open())
    return to_pil(open_photo(image) if isinstance(image, str | PathLike) else image)


def to_pixels(image: Any, size: int | tuple[int, int]) -> Tensor:
    """A target image as (3, H, W) in -1..1: resized to fill the frame and cropped at the centre.

    Args:
        image: What ``load_image`` takes.
        size: Height and width, or the side of a square.
    """
    height, width = _both(size)
    fitted = ImageOps.fit(load_image(image), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1


def frame_of(image: Image.Image, size: int | tuple[int, int]) -> Tensor:
    """What SDXL is told of a target (arXiv 2307.01952, section 2.2), in pixels: (6,).

    Height and width of the picture as it was, top and left of the crop after resizing, height and width of the crop:
    the numbers of diffusers' training scripts for SDXL with a crop at the centre.

    Args:
        image: The picture, before ``to_pixels``.
        size: As for ``to_pixels``.
    """
    height, width = _both(size)
    scale = max(height / image.height, width / image.width)
    top = round(max(int(scale * image.height) - height, 0) / 2)
    left = round(max(int(scale * image.width) - width, 0) / 2)
    return torch.tensor([image.height, image.width, top, left, height, width])


def size_of(image: Any) -> tuple[int, int]:
    """Height and width of an image in pixels; of a file, only the head is read."""
    if isinstance(image, PackedPicture):
        return image.size
    width, height = photo_size(image) if isinstance(image, str | PathLike) else load_image(image).size
    return height, width


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
