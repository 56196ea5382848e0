"""One subject, as the user gives it and as it is resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TypeAlias

import numpy as np
import PIL.Image
import torch

Image: TypeAlias = PIL.Image.Image | np.ndarray | torch.Tensor
ImageSource: TypeAlias = Image | str | PathLike[str]


# Neither class is compared by value: comparing tensors or arrays gives no single truth value.
@dataclass(frozen=True, eq=False)
class Subject:
    """One subject of a prompt: who it is, which word stands for it, and how strongly it acts.

    Pass it as `nested_adapter_image` or `nested_adapter_image_embeds` when an image alone does not say enough. Give
    exactly one of `image` and `image_embeds`. Values are checked when the pipeline is called.

    Args:
        image: A photo, or a list of photos of the same subject (Section 5.2 of the paper): PIL images, paths or
            addresses of image files, arrays of shape (height, width) or (height, width, channels), tensors of shape
            (channels, height, width).
        image_embeds: The subject tokens of Section 3.3, from `pipe.encode_nested_adapter_image`: a tensor of
            shape (images, tokens, token_dim), or a list of such tensors.
        token: The word or phrase of the prompt that stands for the subject, s* in Section 3.2. Default: the
            adapter's `subject_token`.
        adapter_name: The loaded adapter to use. Default: the one whose name or `subject_token` is `token`, or
            the only one loaded.
        scale: The strength of this subject, in place of the adapter's: 0 is off, and from 1 on it is λ of
            Section 5.1.
        image_weights: One weight per image, to blend several images (Section 5.3) in unequal parts. Weights are
            not negative; an image of weight 0 is left out.
        token_indices: Positions in the text embeddings, in place of those of `token` in the prompt. Needed if
            the prompt is given as embeddings, or to pick one of several occurrences of a word.
        mask: Where in the picture the subject may act, from 0 (nowhere) to 1: a PIL image, its path or address, an
            array or a tensor of shape (height, width), stretched over the picture. Elsewhere its word is the plain
            word. Use masks for two subjects of the same kind; subjects that all have masks may share a word.
        start: The fraction of the denoising steps after which the subject begins to act, from 0 to 1.
        end: The fraction of the denoising steps after which it stops, like ControlNet's guidance end.
    """

    image: ImageSource | Sequence[ImageSource] | None = None
    image_embeds: torch.Tensor | Sequence[torch.Tensor] | None = None
    token: str | None = None
    adapter_name: str | None = None
    scale: float | None = None
    image_weights: Sequence[float] | None = None
    token_indices: Sequence[int] | None = None
    mask: ImageSource | None = None
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, eq=False)
class ResolvedSubject:
    """A subject with every value checked, and its word and adapter known.

    Args:
        adapter_name: The loaded adapter to use.
        token: The word or phrase of the prompt.
        images: The photos; empty if `embeds` is given.
        embeds: Subject tokens of shape (images, tokens, token_dim), or `None`.
        scale: The strength, or `None` for the adapter's.
        image_weights: One weight per image, or `None` for equal parts.
        token_indices: Positions in the text embeddings, or `None` to look up `token`.
        mask: Where in the picture it acts, (height, width) in float32 from 0 to 1, or `None` for everywhere.
        steps: The fractions of the denoising steps between which it acts.
    """

    adapter_name: str
    token: str
    images: tuple[Image, ...]
    embeds: torch.Tensor | None
    scale: float | None
    image_weights: tuple[float, ...] | None
    token_indices: tuple[int, ...] | None
    mask: torch.Tensor | None = None
    steps: tuple[float, float] = (0.0, 1.0)
