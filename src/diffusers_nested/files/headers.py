"""Headers of safetensors files.

Such a file is 8 bytes with the length N of the header (little-endian), N bytes of JSON that give every tensor its
type, shape and place, then the tensors (https://github.com/huggingface/safetensors#format).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AdapterLoadError
from .json_files import names_shown, parse_json, shown
from .limits import MAX_HEADER_BYTES

MAX_DIMENSIONS = 8
FLOAT_TYPES = ("F16", "BF16", "F32", "F64")
_WIDTHS = {  # bytes per number; other types (packed fp4 and fp6) are in no checkpoint that this package reads
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_GIT_LFS = b"version https://git-lfs"


class TensorInfo(NamedTuple):
    """What a header says of one tensor: its type, its shape, and its bytes' place behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numel(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name, whose bytes are known to fill the file exactly.

    Raises:
        AdapterLoadError: The file is cut short, or is no such file, or its header contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start == _GIT_LFS[:8] and file.read(len(_GIT_LFS) - 8) == _GIT_LFS[8:]:
            raise AdapterLoadError(f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull` there.")
        if len(start) < 8 or not 2 <= length <= size - 8:
            raise AdapterLoadError(
                f"{path} is not a whole safetensors file: it has {size} bytes, of which {length} should be a header. "
                "Download it again."
            )
        if length > MAX_HEADER_BYTES:
            raise AdapterLoadError(f"{path} has a header of {length} bytes, more than {MAX_HEADER_BYTES}.")
        file.seek(8)
        return parse_header(file.read(length), size - 8 - length, str(path))


def parse_header(data: bytes, buffer_bytes: int, where: str) -> dict[str, TensorInfo]:
    """The tensors of a header, see ``read_header``.

    Args:
        data: The header.
        buffer_bytes: How many bytes of tensors follow it.
        where: Whose header it is, for messages.
    """
    entries = parse_json(data, f"The header of {where}")
    if not isinstance(entries, dict):
        raise AdapterLoadError(f"The header of {where} is not a dict of tensors. Download it again.")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise AdapterLoadError(f"The header of {where} has __metadata__ other than texts. Download it again.")
    tensors = {name: _tensor_info(name, entry, where) for name, entry in entries.items()}
    _check_places(tensors, buffer_bytes, where)
    return tensors


def check_tensors(
    found: Mapping[str, TensorInfo], expected: Mapping[str, Sequence[int]], source: str, allow_others: bool = False
) -> None:
    """Raise unless weights are those that a model of this configuration has.

    Args:
        found: What the headers say.
        expected: Name -> shape.
        source: Where the weights come from, for the message.
        allow_others: Tensors that are not expected, which will not be read, are no error.

    Raises:
        AdapterLoadError: A tensor is missing, left over, of another shape, or not of floating-point numbers.
    """
    both = found.keys() & expected.keys()
    problems = {
        "has wrongly shaped": [
            f"{name}: {shown(found[name].shape)} instead of {tuple(expected[name])}"
            for name in both
            if found[name].shape != tuple(expected[name])
        ],
        "misses": expected.keys() - both,
        "has unknown": set() if allow_others else found.keys() - both,
        f"has, in types other than {', '.join(FLOAT_TYPES)},": [
            f"{name}: {found[name].dtype}" for name in both if found[name].dtype not in FLOAT_TYPES
        ],
    }
    for what, names in problems.items():
        if names:
            raise AdapterLoadError(
                f"The weights of {source} do not match its config.json: the file {what} {len(names)} tensors "
                f"({names_shown(names)}). The files are damaged or of two different models; download them again."
            )


def _tensor_info(name: str, entry: Any, where: str) -> TensorInfo:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    places: Any = fields.get("data_offsets")
    is_known = isinstance(dtype, str) and dtype in _WIDTHS
    if not is_known or not _are_counts(shape, range(MAX_DIMENSIONS + 1)) or not _are_counts(places, (2,)):
        raise AdapterLoadError(
            f"The header of {where} describes the tensor {shown(name)} as {shown(entry)}, which is not a known dtype, "
            "a shape, and data_offsets. Download it again."
        )
    return TensorInfo(dtype, tuple(shape), *places)


def _are_counts(value: Any, lengths: Sequence[int]) -> bool:
    # type() and not isinstance(), which takes true and false for numbers
    return (
        isinstance(value, list)
        and len(value) in lengths
        and all(type(number) is int and 0 <= number < 2**63 for number in value)
    )


def _check_places(tensors: Mapping[str, TensorInfo], buffer_bytes: int, where: str) -> None:
    """Every tensor has the bytes that its shape asks for, one after another, without gaps, to the file's end."""
    reached = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        expected = tensor.numel * _WIDTHS[tensor.dtype]
        if tensor.start != reached or tensor.end - tensor.start != expected:
            raise AdapterLoadError(
                f"The header of {where} puts the tensor {shown(name)} at bytes {tensor.start} to {tensor.end}; after "
                f"the tensor before it and by its shape it must have {expected} bytes from {reached} on. "
                "Download it again."
            )
        reached = tensor.end
    if reached != buffer_bytes:
        raise AdapterLoadError(
            f"{where} is not a whole safetensors file: its tensors need {reached} bytes, it has {buffer_bytes}. "
            "Download it again."
        )
