"""The values of one subject: each function checks one value and returns it in normal form.

`where` names the subject in error messages, such as "nested_adapter_image['pet']".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..errors import SubjectError
from ..images import SLACK, check_photo, check_picture, open_address, to_grey
from .subject import Image

_LARGEST_SCALE = torch.finfo(torch.float32).max  # layers read it as a float32


def check_images(value: Any, where: str) -> tuple[Image, ...]:
    """One image or a list of them; paths and addresses are opened."""
    images = [_opened(image) for image in _as_list(value, where)]
    for image in images:
        _check_image(image, where)
    return tuple(images)


def check_embeds(value: Any, where: str) -> torch.Tensor:
    """One tensor or a list of them, as one tensor of shape (images, tokens, token_dim)."""
    parts = _as_list(value, where)
    for part in parts:
        _check_tokens(part, where)
    if len({(part.shape[1:], part.device) for part in parts}) > 1:
        got = [f"{tuple(part.shape)} on {part.device}" for part in parts]
        raise SubjectError(
            f"{where} has tensors of shapes {', '.join(got)}, expected the same tokens, token_dim and device. "
            "Encode all images of a subject with the same adapter."
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def check_scale(scale: Any, where: str) -> float | None:
    """The strength of one subject."""
    if scale is not None and not _is_amount(scale, _LARGEST_SCALE):
        raise SubjectError(
            f"scale of {where} is {scale!r}, expected a finite number of at least 0. Use 0 to turn it off, "
            "1 for the trained strength."
        )
    return None if scale is None else float(scale)


def check_image_weights(weights: Any, num_images: int, where: str) -> tuple[float, ...] | None:
    """One weight per image, not all 0."""
    if weights is None:
        return None
    values = weights.tolist() if isinstance(weights, np.ndarray | torch.Tensor) else weights
    are_amounts = _is_sequence(values) and all(map(_is_amount, values))
    if not are_amounts or len(values) != num_images or not any(map(float, values)):
        raise SubjectError(
            f"image_weights of {where} is {weights!r}, expected {num_images} finite numbers of at least 0, "
            "one per image, not all of them 0. Give each image its share, or leave image_weights out."
        )
    return tuple(float(weight) for weight in values)


def check_token_indices(indices: Any, where: str) -> tuple[int, ...] | None:
    """Positions in the text embeddings."""
    if indices is None:
        return None
    if not _is_sequence(indices) or not all(map(_is_position, indices)) or not 0 < len(indices) == len(set(indices)):
        raise SubjectError(
            f"token_indices of {where} is {indices!r}, expected a list of distinct integers of at least 0: "
            "the positions of the subject's word in the text embeddings. Position 0 is the start token."
        )
    return tuple(int(index) for index in indices)


def check_mask(mask: Any, where: str) -> torch.Tensor | None:
    """A mask of the picture, as (height, width) in float32 from 0 to 1."""
    if mask is None:
        return None
    mask = _opened(mask)
    if not isinstance(mask, PIL.Image.Image | np.ndarray | torch.Tensor):
        raise SubjectError(
            f"mask of {where} is a {type(mask).__name__}, expected a PIL image, its path or address, a numpy "
            "array or a torch tensor of shape (height, width)."
        )
    given = _mask_values(mask, where)
    if given.dtype == torch.uint8 and given.numel() and int(given.max()) == 1:
        raise SubjectError(
            f"mask of {where} has values of 0 and 1 in uint8, where 255 is white, so the subject would hardly act. "
            "Give booleans or floats, or multiply it by 255."
        )
    given = given.float() / 255 if given.dtype == torch.uint8 else given.float()
    if given.ndim != 2 or 0 in given.shape:
        raise SubjectError(
            f"mask of {where} has shape {tuple(given.shape)}, expected (height, width). Give one mask for each subject."
        )
    if not bool(((given >= -SLACK) & (given <= 1 + SLACK)).all()):
        raise SubjectError(
            f"mask of {where} has values from {float(given.min()):.4g} to {float(given.max()):.4g}, expected 0 to 1, "
            "or 0 to 255 in uint8. Rescale it, or clip it with `.clip(0, 1)`."
        )
    given = given.clamp(0, 1)
    if not given.any():
        raise SubjectError(f"mask of {where} is 0 everywhere, so the subject could not act. Leave the subject out.")
    return given


def _mask_values(mask: Any, where: str) -> torch.Tensor:
    """A mask's numbers on the CPU."""
    if isinstance(mask, PIL.Image.Image):
        check_picture(mask, f"mask of {where}")
        mask = np.array(to_grey(mask, f"mask of {where}"))
    if isinstance(mask, np.ndarray):
        is_real = mask.dtype.kind in "buif"
    else:
        is_real = not (mask.is_complex() or mask.is_meta) and mask.layout == torch.strided
    if not is_real:
        raise SubjectError(
            f"mask of {where} holds {mask.dtype}, expected numbers from 0 to 1, or 0 to 255 in uint8. Convert it."
        )
    if isinstance(mask, np.ndarray):  # a copy, as torch rejects negative strides and foreign byte orders
        mask = torch.from_numpy(mask.astype(np.uint8 if mask.dtype == np.uint8 else np.float32))
    return mask.detach().cpu()


def check_steps(start: Any, end: Any, where: str) -> tuple[float, float]:
    """The fractions of the denoising steps between which a subject acts."""
    if not _is_amount(start) or not _is_amount(end) or not start < end <= 1:
        raise SubjectError(
            f"start and end of {where} are {start!r} and {end!r}, expected fractions of the denoising steps with "
            "0 <= start < end <= 1. The defaults, 0.0 and 1.0, mean all steps."
        )
    return float(start), float(end)


def check_word(word: Any, where: str) -> str:
    """The word or phrase that stands for a subject."""
    if not isinstance(word, str) or not word.strip():
        raise SubjectError(f"The word of {where} is {word!r}, expected a non-empty string. Name a word of the prompt.")
    return word


def _opened(image: Any) -> Any:
    return open_address(image) if isinstance(image, str | os.PathLike) else image


def _check_image(image: Any, where: str) -> None:
    if not isinstance(image, PIL.Image.Image | np.ndarray | torch.Tensor):
        raise SubjectError(
            f"{where} got a {type(image).__name__}, expected a PIL image, its path or address, a numpy array "
            "or a torch tensor, or a list of them. For several subjects, pass a dict of word -> image(s) or a list "
            "of Subjects."
        )
    check_photo(image, where)


def _check_tokens(tokens: Any, where: str) -> None:
    if not isinstance(tokens, torch.Tensor):
        raise SubjectError(
            f"{where} got a {type(tokens).__name__}, expected a tensor or a list of tensors, as returned by "
            "pipe.encode_nested_adapter_image. Pass images as nested_adapter_image or Subject(image=...)."
        )
    if tokens.ndim != 3 or 0 in tokens.shape or not tokens.is_floating_point():
        raise SubjectError(
            f"{where} got embeddings of shape {tuple(tokens.shape)} and type {tokens.dtype}, expected "
            "floating-point numbers of shape (images, tokens, token_dim). Use what "
            "pipe.encode_nested_adapter_image returns."
        )
    if not torch.isfinite(tokens).all():
        raise SubjectError(
            f"{where} got embeddings of shape {tuple(tokens.shape)} with NaN or infinite values, expected "
            "finite ones. Encode the image again, in a wider type if this was float16."
        )


def _as_list(value: Any, where: str) -> list[Any]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
        raise SubjectError(f"{where} is an empty list, expected at least one item. Leave out a subject that has none.")
    return values


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_amount(value: Any, most: float = sys.float_info.max) -> bool:
    if isinstance(value, np.generic):  # in whose type the bound might be infinite
        value = value.item()
    # the type alone is tested: compared as it is, a whole number may be too large for a float
    return issubclass(type(value), Real) and type(value) is not bool and 0 <= value <= most


def _is_position(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
