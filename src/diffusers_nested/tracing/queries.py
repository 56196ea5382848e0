"""Where on the photos each learned query of a subject's encoder looks (Figure 6 of arXiv 2501.01407)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..errors import NestedAdapterError
from .asking import check_picture, subject_of
from .photos import PhotoMaps, photo_at, photo_maps
from .pictures import enlarged, overlay, sheet
from .record import CallRecord


@dataclass(frozen=True, eq=False)
class Queries:
    """Where on the photos of a subject the queries of its encoder look.

    Attributes:
        word: The subject's word.
        photos: For each photo, the maps of all queries.
        read: (photos, N), the part of each query's token in all that the picture reads of the subject; None if that
            was not recorded.
    """

    word: str
    photos: Sequence[PhotoMaps]
    read: Tensor | None

    def __len__(self) -> int:
        """N, the number of queries."""
        return len(self.photos[0].parts[0][1])

    def maps(self, photo: int = 0) -> Tensor:
        """The maps over the patches that the first vision tower sees, (N, h, w); float32 on the CPU."""
        return photo_at(self.photos, photo).parts[0][1]

    def overlay(self, query: int, photo: int = 0) -> Image.Image:
        """One query's map as heat on a photo.

        Raises:
            NestedAdapterError: There is no such query.
        """
        if not isinstance(query, int) or not 0 <= query < len(self):
            raise NestedAdapterError(f"There is no query {query!r}: the encoder has {len(self)}, counted from 0.")
        maps = photo_at(self.photos, photo)
        return overlay(maps.shown(), maps.placed(torch.eye(len(self))[query]))

    def sheet(self, count: int = 8, photo: int = 0) -> Image.Image:
        """The photo, and the queries whose tokens the picture reads most, or else the first ones.

        Args:
            count: How many queries.
            photo: On which photo.
        """
        order = list(range(len(self)))
        if self.read is not None:
            order = self.read[photo].argsort(descending=True, stable=True).tolist()
        cells = [("the photo", enlarged(photo_at(self.photos, photo).shown()))]
        cells += [(self._named(one, photo), self.overlay(one, photo)) for one in order[:count]]
        title = f"Where on the photo the learned queries look, and their part in what is read of the {self.word}"
        return sheet(title if self.read is not None else title.partition(",")[0], [("", cells)])

    def _named(self, query: int, photo: int) -> str:
        return f"query {query}" if self.read is None else f"query {query}: {self.read[photo, query]:.0%}"


def queries_of(record: CallRecord, subject: str | int | None, picture: int) -> Queries:
    """See ``Trace.queries``."""
    check_picture(record, picture)
    slot, traced = subject_of(record, subject, picture)
    photos = photo_maps(traced)
    found = record.kept.read(lambda key: key.kind == "tokens" and (key.picture, key.slot) == (picture, slot))
    # (S, N) or (H, S, N), of one photo after another
    kept = [tokens.flatten(0, -2).mean(0) for _, tokens in found]
    total = torch.stack(kept).sum(0) if kept else torch.zeros(1)
    read = (total / total.sum()).unflatten(0, (len(photos), -1)) if total.any() else None
    return Queries(traced.subject.token, photos, read)
