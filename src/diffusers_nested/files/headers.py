"""Headers of safetensors files: what they say of the tensors, before one of them is read.

safetensors checks a header by itself: that it is JSON of the right form, that types and shapes are known, and that the
tensors fill the file without gaps and overlaps (https://github.com/huggingface/safetensors#format). What it lets
through is refused here: a header that is too long, a name that occurs twice, a shape of too many dimensions.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from ..errors import AdapterLoadError
from .json_files import names_shown, parse_json, shown
from .limits import MAX_HEADER_BYTES

MAX_DIMENSIONS = 8
FLOAT_TYPES = ("F16", "BF16", "F32", "F64")
_GIT_LFS = b"version https://git-lfs"


class TensorInfo(NamedTuple):
    """What a header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name.

    Raises:
        AdapterLoadError: The file is cut short, or is no such file, or its header contradicts itself.
    """
    text = _header_text(path)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            header = {name: TensorInfo(x.get_dtype(), tuple(x.get_shape())) for name, x in slices.items()}
    except SafetensorError as error:
        raise not_whole(path, error) from error
    names = [name for name, _ in parse_json(text, f"The header of {path}", pairs=list)]
    if len(set(names)) < len(names):
        raise AdapterLoadError(f"The header of {path} has a tensor twice. Download it again.")
    deep = [name for name, tensor in header.items() if len(tensor.shape) > MAX_DIMENSIONS]
    if deep:
        raise AdapterLoadError(
            f"{path}: the tensor {shown(deep[0])} has {len(header[deep[0]].shape)} dimensions, more than the "
            f"{MAX_DIMENSIONS} that are read. Download it again."
        )
    return header


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


def not_whole(path: Path, error: SafetensorError) -> AdapterLoadError:
    """What safetensors refuses, with the name of the file."""
    return AdapterLoadError(f"{path} is not a whole safetensors file ({shown(str(error))[1:-1]}). Download it again.")


def _header_text(path: Path) -> bytes:
    """The JSON at the beginning of a file: after 8 bytes with its length N (little-endian), N bytes."""
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start == _GIT_LFS[:8] and file.read(len(_GIT_LFS) - 8) == _GIT_LFS[8:]:
            raise AdapterLoadError(f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull` there.")
        if MAX_HEADER_BYTES < length <= path.stat().st_size - 8:
            raise AdapterLoadError(f"{path} has a header of {length} bytes, more than {MAX_HEADER_BYTES}.")
        return file.read(min(length, MAX_HEADER_BYTES))
