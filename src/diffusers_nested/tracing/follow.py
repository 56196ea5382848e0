"""From a point of the picture to subject tokens and places of the photos (Figure 5 of arXiv 2501.01407)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import NestedAdapterError
from .asking import check_picture, check_step, layers_of, mean_of, nothing_read, of_head, subject_of
from .photos import PhotoMaps, photo_at, photo_maps
from .pictures import marked, overlay, picture_of, sheet
from .record import CallRecord
from .word_map import word_map


@dataclass(frozen=True, eq=False)
class Followed:
    """What a point of the picture reads of a subject.

    Attributes:
        word: The subject's word.
        point: (x, y) in pixels of the picture.
        tokens: (photos, N), the part of each token in all that the point reads of the subject; they sum to 1.
        photos: For each photo, the maps of the encoder's queries, one for each token.
        picture: The picture that the call returned; None if it returned none.
    """

    word: str
    point: tuple[float, float]
    tokens: Tensor
    photos: Sequence[PhotoMaps]
    picture: Image.Image | None

    def places(self, photo: int = 0) -> Tensor:
        """Where on a photo the point reads: Σₙ token n · map of query n, (height, width) of the reduced photo."""
        return photo_at(self.photos, photo).placed(self.tokens[photo])

    def overlay(self, photo: int = 0) -> Image.Image:
        """The places as heat on a photo."""
        return overlay(photo_at(self.photos, photo).shown(), self.places(photo))

    def marked(self, image: Image.Image | None = None) -> Image.Image:
        """The picture with a ring around the point.

        Args:
            image: Another picture than the call's, of the same size.

        Raises:
            NestedAdapterError: The call returned no picture, and none is given.
        """
        return marked(picture_of(image, self.picture), {"": self.point})

    def sheet(self) -> Image.Image:
        """The picture with the point, and the photos with the places that it reads."""
        cells = [self.marked(), *[self.overlay(i) for i in range(len(self.photos))]]
        names = [f"photo {i + 1}" for i in range(len(self.photos))] if len(self.photos) > 1 else ["the photo"]
        cells = list(zip(["the picture", *names], cells, strict=True))
        return sheet(f"What the marked point reads of the {self.word}", [("", cells)])


def follow(
    record: CallRecord,
    point: tuple[float, float],
    subject: str | int | None,
    picture: int,
    layer: str | None,
    step: int | None,
    head: int | None,
) -> Followed:
    """See ``Trace.follow``."""
    check_picture(record, picture)
    check_step(record, step)
    x, y = _part_of(record, point, picture)
    slot, traced = subject_of(record, subject, picture)
    total = torch.zeros(1)
    for place, size, times in _places(record, layer):
        tokens = mean_of(record, "tokens", place, picture, slot, step)  # (S, N) or (H, S, N)
        if tokens is not None:
            query = int(y * size[0]) * size[1] + int(x * size[1])
            total = total + times * of_head(tokens[..., query, :], head, tokens.ndim == 3)
    if not total.any():
        raise nothing_read(record, traced, "attention over its tokens")
    photos = photo_maps(traced)
    return Followed(
        traced.subject.token,
        point,
        (total / total.sum()).unflatten(0, (len(photos), -1)),
        photos,
        record.picture(picture),
    )


def telling_points(
    record: CallRecord, count: int, subject: str | int | None, picture: int
) -> list[tuple[float, float]]:
    """See ``Trace.points``."""
    check_picture(record, picture)
    slot, traced = subject_of(record, subject, picture)
    word = word_map(record, traced.subject.token_indices or traced.subject.token, picture, None, None, None)
    reached, (h, w) = torch.zeros_like(word.map), word.map.shape
    for place, size, _ in _places(record, None):
        tokens = mean_of(record, "tokens", place, picture, slot)
        if tokens is not None:  # (S, N) or (H, S, N) -> (S,)
            amount = of_head(tokens.sum(-1), None, tokens.ndim == 3).reshape(1, 1, *size)
            # the query that `follow` asks at a point, not a mean with those where the subject may not act
            reached = reached + interpolate(amount, (h, w), mode="nearest-exact")[0, 0]
    if not reached.any():
        raise nothing_read(record, traced, "attention over its tokens")
    width, height = _pixels(record, picture)
    found = peaks(word.map.masked_fill(reached <= 0, -1.0), count)
    return [((x + 0.5) / w * width, (y + 0.5) / h * height) for x, y in found]


def peaks(values: Tensor, count: int) -> list[tuple[int, int]]:
    """The columns and rows of the largest values (h, w) that are at least a fifth of the map apart."""
    height, width = values.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    left, found = values.clone(), []
    while len(found) < count and left.max() >= 0:
        y, x = divmod(int(left.argmax()), width)
        found.append((x, y))
        left[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 0.2**2] = -1.0
    return found


def _places(record: CallRecord, layer: str | None) -> list[tuple[str | tuple[int, int], tuple[int, int], int]]:
    """What attention over tokens was kept of: a layer, or layers of a size; with the size, and how many layers."""
    paths = layers_of(record, layer)
    apart = {key.place for key in record.kept if key.kind == "tokens" and isinstance(key.place, str)}
    if apart:
        return [(path, record.sizes[path], 1) for path in paths]
    if len(paths) < len(record.sizes):
        raise NestedAdapterError(
            f"The nested attention of layer {layer!r} was not kept apart from that of others. Use trace(pipe, "
            f"layers={layer!r}) or trace(pipe, heads=True)."
        )
    sizes = list(record.sizes.values())
    return [(size, size, sizes.count(size)) for size in dict.fromkeys(sizes)]


def _part_of(record: CallRecord, point: tuple[float, float], picture: int) -> tuple[float, float]:
    """The point as fractions of width and height, below 1."""
    width, height = _pixels(record, picture)
    try:
        x, y = (float(one) for one in point)
    except (TypeError, ValueError):
        x = y = -1.0
    if not (0 <= x < width and 0 <= y < height):
        raise NestedAdapterError(
            f"The point {point!r} is not in the picture, which has {width} x {height} pixels. Give (x, y) from the top "
            "left corner."
        )
    return x / width, y / height


def _pixels(record: CallRecord, picture: int) -> tuple[int, int]:
    """Width and height of a picture, which may have been left as latents."""
    own = record.picture(picture)
    factor = record.pipeline.vae_scale_factor
    return (record.size[1] * factor, record.size[0] * factor) if own is None else own.size
