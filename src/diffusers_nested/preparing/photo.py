"""One photo: from its file to the files of its examples, or to the reason why there are none."""

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import SubjectError
from ..files.write_whole import write_whole
from ..images import read_photo, to_pil
from .names import check_name, input_name, shown_name, target_name
from .reject import Reason, Reject
from .subjects import Crops
from .words import SubjectWord

Row = dict[str, Any]


class PhotoPreparer:
    """Prepares photos one by one; the result depends on nothing but the photo, its caption and the settings.

    Args:
        source: Folder of the photos.
        output: Folder of the training set.
        crops: Finds the subject.
        word: Puts the subject's word into captions.
        captions: The given captions, by the photo's name.
        caption: Captions a picture that has none, if there is such a model.
    """

    def __init__(
        self,
        source: Path,
        output: Path,
        crops: Crops,
        word: SubjectWord,
        captions: Mapping[str, str],
        caption: Callable[[Image.Image], str] | None,
    ) -> None:
        self._source = source
        self._output = output
        self._crops = crops
        self._word = word
        self._captions = captions
        self._caption = caption

    def prepare(self, name: str) -> Row:
        """Write the examples of a photo.

        Returns:
            The rows of its "examples" and "rejects".

        Raises:
            OSError: They cannot be written, for example on a full disk; no file is incomplete.
        """
        try:
            examples, rejects = self._prepared(name)
        except Reject as reject:
            examples, rejects = [], [reject.row(shown_name(name))]
        return {"examples": examples, "rejects": rejects}

    def _prepared(self, name: str) -> tuple[list[Row], list[Row]]:
        check_name(name)
        data = _read(self._source / name)
        picture = _opened(data)
        text = self._given(name)
        found = self._crops.find(picture)
        rejects = [
            {**crop.row(name), **({"subject": number} if len(found) > 1 else {})}
            for number, crop in enumerate(found, 1)
            if isinstance(crop, Reject)
        ]
        crops = {number: crop for number, crop in enumerate(found, 1) if isinstance(crop, Image.Image)}
        if crops and text is None and self._caption is not None:
            text = self._word.put_into(self._caption(picture))
        examples = [
            {"input_file_name": input_name(name, number), "file_name": target_name(name), "text": text}
            for number in crops
        ]
        for number, crop in crops.items():
            _write(self._output / input_name(name, number), _as_png(crop))
        if crops:
            _write(self._output / target_name(name), data)
        return examples, rejects

    def _given(self, name: str) -> str | None:
        """The given caption with the subject's word; None if the model is to write one."""
        given = self._captions.get(name)
        if given:
            return self._word.put_into(given)
        if self._caption is None:
            raise Reject(Reason.NO_CAPTION)
        return None


def made_from(source: Path, name: str, captions: Mapping[str, str]) -> list[Any]:
    """What a photo's row was made from: the file's size in bytes, or None if it cannot be told, and its caption."""
    try:
        size = (source / name).stat().st_size
    except OSError:
        size = None
    return [size, captions.get(name)]


def _read(photo: Path) -> bytes:
    if not photo.is_file():  # such as a named pipe, or a link to nowhere
        raise Reject(Reason.UNREADABLE, "not a regular file")
    try:
        data = photo.read_bytes()
    except OSError as error:
        raise Reject(Reason.UNREADABLE, error.strerror or "") from error
    if not data:
        raise Reject(Reason.EMPTY_FILE)
    return data


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about data beside the picture
            return to_pil(read_photo(io.BytesIO(data), "The image"))
    except SubjectError as error:
        raise Reject(Reason.UNREADABLE, str(error)) from error


def _as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
