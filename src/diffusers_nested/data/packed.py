"""Pictures that lie in a shard, an archive of many."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import NestedAdapterError
from ..images import read_photo

HEAD = tarfile.BLOCKSIZE  # bytes before each file of an archive


@dataclass(frozen=True)
class PackedPicture:
    """A picture in a shard, read only when it is needed.

    Attributes:
        shard: The archive.
        name: Of the file in it.
        offset: Where the file's content begins, in bytes.
        length: Of the content, in bytes.
        size: Height and width of the picture in pixels.
    """

    shard: Path
    name: str
    offset: int
    length: int
    size: tuple[int, int]

    def read(self) -> bytes:
        """The content of the file.

        Raises:
            NestedAdapterError: The shard cannot be read, or holds something else there.
        """
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset - HEAD)
                head, content = file.read(HEAD), file.read(self.length)
            found = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
            is_there = (found.name, found.size) == (self.name, self.length) == (self.name, len(content))
        except (OSError, tarfile.HeaderError) as error:
            raise NestedAdapterError(f"{self} cannot be read: {error}. Copy the shard again.") from error
        if not is_there:
            raise NestedAdapterError(f"{self} is not where the index says. Copy the shard and its index again.")
        return content

    def open(self) -> Image.Image:
        """The loaded picture.

        Raises:
            SubjectError: It is damaged; see ``open_photo``.
        """
        return read_photo(io.BytesIO(self.read()), f"The image {self}")

    def __str__(self) -> str:
        return f"{self.name} in {self.shard}"
