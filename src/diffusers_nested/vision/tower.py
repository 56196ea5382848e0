"""The place of a vision tower: a folder in a source."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError
from ..files import CONFIG_NAME
from ..files.damage import damaged_downloads
from ..files.source import Source
from .tower_files import read_tower_config

OWN_FOLDER = "image_encoder"
PREPROCESSING = "feature_extractor"
_NUMBERED = re.compile(rf"{OWN_FOLDER}(?:_(\d+))?")


def numbered(name: str, number: int) -> str:
    """The name of a folder for the tower with this number, as diffusers numbers text encoders."""
    return name if number == 1 else f"{name}_{number}"


@dataclass(frozen=True)
class Tower:
    """The place of a vision tower; its configuration is read on first use.

    Attributes:
        source: The source that contains it.
        folder: Its folder, relative to the top of the source.
        is_of_ip_adapter: Whether it belongs to an IP-Adapter's file. Without preprocessing of its own beside it, photos
            are then prepared as in diffusers, by the defaults for its input size.
        number: Its number among the towers that the adapter reads.
    """

    source: Source
    folder: str
    is_of_ip_adapter: bool = False
    number: int = 1

    @property
    def name(self) -> str:
        """A name that identifies the tower, however it was referred to."""
        if self.source.is_folder:
            return str(Path(self.source.location, self.folder).resolve())
        return f"{self.place}@{self.source.revision}"

    @property
    def place(self) -> str:
        """Its place, in the form that configurations use."""
        return "/".join(filter(None, (self.source.location, self.folder)))

    @property
    def preprocessing(self) -> str:
        """The name of the folder beside it that has its preprocessing."""
        named = _NUMBERED.fullmatch(self.folder.split("/")[-1])
        return numbered(PREPROCESSING, self.number if named is None else int(named[1] or 1))

    def path_of(self, name: str) -> str:
        """Path of one of its files, relative to the top of the source."""
        return "/".join(filter(None, (self.folder, name)))

    @cached_property
    def found(self) -> Path | None:
        """Local path of its config.json; None if there is no such tower."""
        return self.source.find(self.path_of(CONFIG_NAME))

    @property
    def local_folder(self) -> Path:
        """The local folder of its config.json.

        Raises:
            AdapterLoadError: There is no config.json, or it cannot be read.
        """
        if self.found is None:
            raise AdapterLoadError(
                f"The image encoder is incomplete: {self.place} has no {CONFIG_NAME}. Save it again."
            )
        return self.found.parent

    @cached_property
    def config(self) -> Any:
        """Its configuration.

        Raises:
            AdapterLoadError: It is missing or belongs to another model, or a value is out of range.
        """
        folder = self.local_folder
        with damaged_downloads(folder):
            return read_tower_config(folder / CONFIG_NAME)
