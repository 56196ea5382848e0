"""An encoded training set in shards, and the folder in which processes and runs share them."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data import PackedPicture, each
from ..errors import NestedAdapterError
from .encoded import Encoded, encode_captions, encode_examples
from .samples import RawExamples, SampleEncoder
from .state_files import DamagedFileError, load_state, save_state

SHARD = 256  # examples, or captions, of a shard: of SDXL at 1024 pixels, some 200 and 80 MB
FIRST = "-00000"
_COMPARED = 32  # rows of a shard that the models encode again, to see whether they are those that wrote it
_SLACK = 0.02  # tolerance for fp16 and the order of additions, in units of the largest entry


class EncodedSet:
    """What is to be encoded, shard by shard: examples, and each caption once.

    Args:
        raw: The training set.
        encoder: Encodes it.

    Attributes:
        size: Rows of a shard, but for the last ones.
        names: Of the shards.
        caption: Of each example, the number of its caption.
        placed: Of each example, caption and word of its subjects.
    """

    def __init__(self, raw: RawExamples, encoder: SampleEncoder) -> None:
        self._raw, self._encoder, self.size = raw, encoder, SHARD
        texts: list[str] = []
        self.placed: list[list[tuple[str, str | None]]] = []
        self._files: list[list[int]] = []  # of each example, the sizes of its pictures' files
        for triplet in each(raw.triplets):
            texts.append(triplet.text)
            self.placed.append([(triplet.text, word) for word in triplet.photos])
            self._files.append(list(_file_sizes((*triplet.photos.values(), triplet.target_image))))
        self._captions = list(dict.fromkeys(texts))
        number = {caption: i for i, caption in enumerate(self._captions)}
        self.caption = [number[text] for text in texts]
        self._rows: dict[str, Sequence[int]] = {}
        for kind, count in (("examples", len(texts)), ("captions", len(self._captions))):
            for first in range(0, count, self.size):
                self._rows[f"{kind}-{first // self.size:05}"] = range(first, min(first + self.size, count))
        self.names = list(self._rows)

    def encode(self, names: Sequence[str], show_progress: bool = False) -> Iterator[tuple[str, Encoded]]:
        """Encode these shards, one after the other."""
        total = sum(len(self._rows[name]) for name in names)
        with tqdm(total=total, desc="Caching features", disable=not (show_progress and names)) as bar:
            for name in names:
                yield name, self._encode(name, self._rows[name], bar.update)

    def first_rows(self, name: str) -> Encoded:
        """The first rows of a shard, encoded."""
        return self._encode(name, self._rows[name][:_COMPARED])

    def digest(self, name: str) -> Tensor:
        """SHA-256 of what a shard is made from, and for the content of pictures, the sizes of their files; (32,)."""
        rows = self._rows[name]
        if name.startswith("captions"):
            lines = [self._captions[i] for i in rows]
        else:
            lines = [
                repr((self.placed[i], self._captions[self.caption[i]], self._raw.sizes[i], *self._files[i]))
                for i in rows
            ]
        return torch.frombuffer(bytearray(hashlib.sha256(repr(lines).encode()).digest()), dtype=torch.uint8)

    def _encode(self, name: str, rows: Sequence[int], advance: Any = lambda count: None) -> Encoded:
        if name.startswith("captions"):
            return encode_captions([self._captions[i] for i in rows], self._encoder, advance)
        return encode_examples(self._raw, rows, self._encoder, advance)


def _file_sizes(pictures: Iterable[Any]) -> Iterator[int]:
    for picture in pictures:
        if isinstance(picture, PackedPicture):
            yield picture.length
        elif isinstance(picture, str | Path):
            yield Path(picture).stat().st_size if Path(picture).is_file() else 0  # reading it will say so


def shared(whole: EncodedSet, folder: Path, accelerator: Any) -> dict[str, Encoded]:
    """Read a folder of shards, in which each process first writes its share of those that are missing.

    A shard is there entirely or not at all, so whoever was killed goes on where they were.

    Raises:
        NestedAdapterError: The folder holds another training set, or one that other models encoded; or it cannot be
            written, or is not the same for all processes.
    """
    files = {name: folder / f"{name}.pt" for name in whole.names}
    checked = whole.names[accelerator.process_index :: accelerator.num_processes]  # a share of each process
    found = {name: _read(whole, name, file, name in checked) for name, file in files.items() if file.is_file()}
    for name, kept in found.items():
        _check_models(whole, name, kept, files[name])
    _make(folder)
    # by their numbers: what is missing is not the same for all, as others write already
    own = [name for name in checked if not files[name].is_file()]
    for name, part in whole.encode(own, accelerator.is_main_process):
        _write(files[name], {**part, "digest": whole.digest(name)})
    accelerator.wait_for_everyone()
    lost = [str(file) for file in files.values() if not file.is_file()]
    if lost:
        raise NestedAdapterError(
            f"{lost[0]} was written by no process. cache_folder must be one folder that all processes share."
        )
    return {name: found[name] if name in found else _read(whole, name, file) for name, file in files.items()}


def _write(file: Path, kept: Encoded) -> None:
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")  # two runs may write the same shard
    try:
        save_state(kept, partial)
        partial.replace(file)
    except (OSError, RuntimeError) as error:
        raise _unwritable(file.parent, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: Exception) -> NestedAdapterError:
    return NestedAdapterError(f"Cannot write into cache_folder {folder}: {error}. Name another one.")


def _read(whole: EncodedSet, name: str, file: Path, is_checked: bool = False) -> Encoded:
    try:
        kept = load_state(file, mmap=True, is_checked=is_checked)  # shared by the processes of a machine
    except DamagedFileError as error:
        raise NestedAdapterError(f"In cache_folder, {error} Delete it, and it is written again.") from error
    digest = kept.pop("digest", None) if isinstance(kept, dict) else None
    if not isinstance(digest, Tensor) or not torch.equal(digest, whole.digest(name)):
        raise _another(file)
    return kept


def _check_models(whole: EncodedSet, name: str, kept: Encoded, file: Path) -> None:
    """Raise unless the models encode the first rows of a kind as whoever wrote them did."""
    if not name.endswith(FIRST):
        return
    found = whole.first_rows(name)
    if kept.keys() != found.keys() or not all(_is_close(x, kept[part]) for part, x in found.items()):
        raise _another(file)


def _is_close(found: Tensor, expected: Tensor) -> bool:
    if found.shape[1:] != expected.shape[1:] or len(found) > len(expected):
        return False
    found, expected = found.float(), expected[: len(found)].float()
    # of families without pooled prompts these are empty
    return not found.numel() or bool((found - expected).abs().max() <= _SLACK * expected.abs().max())


def _another(file: Path) -> NestedAdapterError:
    return NestedAdapterError(
        f"{file} is of another training set, or was written with other models, another resolution or another version "
        "of the package. Delete the folder, or name another cache_folder."
    )
