"""Where on a photo the features of a vision tower come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import NestedAdapterError
from ..images import to_pil
from ..vision import joined
from ..vision.several import each_of
from .encoder_attention import encoder_attention
from .record import TracedSubject

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photo
SHOWN = 512  # pixels of the longer side of a photo in pictures


@dataclass(frozen=True, eq=False)
class PhotoMaps:
    """Where on a photo each query of the encoder looks.

    Attributes:
        photo: The photo, upright, in RGB.
        parts: For each vision tower, the part of the photo that it sees, and the maps of all queries there,
            (N, h, w); what is missing to a sum of 1 was read of features without a place, such as the class token.
    """

    photo: Image.Image
    parts: tuple[tuple[Box, Tensor], ...]

    def placed(self, weights: Tensor) -> Tensor:
        """A mixture of the queries' maps, with weights (N,), on the photo as ``shown`` has it: (height, width)."""
        shown = self.shown()
        total = torch.zeros(shown.height, shown.width)
        for box, maps in self.parts:
            scale = shown.width / self.photo.width
            mixed = torch.einsum("n,nhw->hw", weights.float(), maps)
            total = total + on_photo(mixed, tuple(side * scale for side in box), (shown.height, shown.width))
        return total

    def shown(self) -> Image.Image:
        """The photo, reduced if it is large."""
        small = self.photo.copy()
        small.thumbnail((SHOWN, SHOWN))
        return small


def photo_maps(traced: TracedSubject) -> list[PhotoMaps]:
    """Where the encoder's queries look on each photo of a subject.

    Raises:
        NestedAdapterError: The subject was given as embeddings, or its encoder has no queries that look at places.
    """
    if not traced.subject.images:
        raise NestedAdapterError(
            f"The subject {traced.subject.token!r} was given as embeddings, so its photo is unknown. Pass the photo as "
            "nested_adapter_image."
        )
    photos = [to_pil(image) for image in traced.subject.images]
    adapter, towers = traced.adapter.adapter, traced.adapter.encoder.parts
    wanted = each_of(adapter.image_features, len(towers))
    with traced.gate.lock, torch.no_grad():  # a call may be moving the models
        pixels = [tower.pixels(photos) for tower in towers]
        read = [tower.read(x, features) for tower, x, features in zip(towers, pixels, wanted, strict=True)]
        device = next(adapter.encoder.parameters()).device
        weights = encoder_attention(adapter.encoder, joined(read).to(device, adapter.dtype)).cpu()
    parts = []
    for tower, x, features, own in zip(
        towers, pixels, read, weights.split([one.shape[1] for one in read], 2), strict=True
    ):
        grid = tuple(side // tower.model.config.patch_size for side in x.shape[-2:])
        if features.shape[1] > 1:  # a pooled feature has no place
            parts.append((tower.processor, own[..., -grid[0] * grid[1] :].unflatten(-1, grid)))
    if not parts:
        raise NestedAdapterError("The adapter reads one feature of the whole photo, so its queries look at no places.")
    return [
        PhotoMaps(photo, tuple([(seen_part(processor, photo.size), maps[i]) for processor, maps in parts]))
        for i, photo in enumerate(photos)
    ]


def photo_at(photos: Sequence[PhotoMaps], number: int) -> PhotoMaps:
    """One photo of a subject.

    Raises:
        NestedAdapterError: The subject has no such photo.
    """
    if type(number) is not int or not 0 <= number < len(photos):
        raise NestedAdapterError(f"There is no photo {number!r}: the subject has {len(photos)}, counted from 0.")
    return photos[number]


def seen_part(processor: Any, size: tuple[int, int]) -> Box:
    """The part of a photo that is left after its preprocessing; beyond the photo where it is padded.

    Args:
        processor: The image processor.
        size: Width and height of the photo.
    """
    width, height = size
    new_width, new_height = width, height
    if processor.do_resize:
        shortest = processor.size.get("shortest_edge")
        if shortest is None:
            new_width, new_height = processor.size["width"], processor.size["height"]
        else:
            new_width, new_height = (int(shortest * side / min(size)) for side in size)
    if not processor.do_center_crop:
        return 0.0, 0.0, float(width), float(height)
    crop_width, crop_height = processor.crop_size["width"], processor.crop_size["height"]
    left, top = (new_width - crop_width) / 2, (new_height - crop_height) / 2
    x, y = width / new_width, height / new_height
    return left * x, top * y, (left + crop_width) * x, (top + crop_height) * y


def on_photo(values: Tensor, box: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Values (h, w) of a part of a photo, on the whole photo of this height and width; zero outside of the part."""
    left, top, right, bottom = (round(side) for side in box)
    inside = F.interpolate(values[None, None], (max(bottom - top, 1), max(right - left, 1)), mode="bilinear")[0, 0]
    # negative padding cuts off what lies beyond the photo
    height, width = inside.shape
    return F.pad(inside, (left, size[1] - left - width, top, size[0] - top - height))
