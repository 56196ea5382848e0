"""Headers of safetensors files: the names, types and shapes of the tensors, known before any tensor is read.

The safetensors library checks the format itself: valid JSON, known types, and tensors that fill the file without gaps
or overlaps (https://github.com/huggingface/safetensors#format). This module refuses what it lets through: very long
headers, duplicate names, and shapes with too many dimensions.
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
OTHER_CONFIG = "do not match its config.json"
_GIT_LFS = b"version https://git-lfs"


class TensorInfo(NamedTuple):
    """Type and shape of one tensor, according to the header."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, by name.

    Raises:
        AdapterLoadError: The file is truncated, is not a safetensors file, or has an inconsistent header.
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
        raise AdapterLoadError(f"The header of {path} lists a tensor twice. Download it again.")
    deep = [name for name, tensor in header.items() if len(tensor.shape) > MAX_DIMENSIONS]
    if deep:
        raise AdapterLoadError(
            f"{path}: the tensor {shown(deep[0])} has {len(header[deep[0]].shape)} dimensions, more than the "
            f"{MAX_DIMENSIONS} allowed. Download it again."
        )
    return header


def check_tensors(
    found: Mapping[str, TensorInfo],
    expected: Mapping[str, Sequence[int]],
    source: str,
    allow_others: bool = False,
    fault: str = OTHER_CONFIG,
) -> None:
    """Raise unless the weights are the ones that the model expects.

    Args:
        found: The tensors according to the headers.
        expected: Name -> shape.
        source: Where the weights come from, for the message.
        allow_others: Ignore unexpected tensors, which will not be read.
        fault: What is wrong with weights that are not the expected ones, for the message.

    Raises:
        AdapterLoadError: A tensor is missing or unexpected, has another shape, or is not floating-point.
    """
    both = found.keys() & expected.keys()
    problems = {
        "has {} wrongly shaped {}": [
            f"{name}: {shown(found[name].shape)} instead of {tuple(expected[name])}"
            for name in both
            if found[name].shape != tuple(expected[name])
        ],
        "misses {} {}": expected.keys() - both,
        "has {} unknown {}": set() if allow_others else found.keys() - both,
        f"has {{}} {{}} of types other than {', '.join(FLOAT_TYPES)}": [
            f"{name}: {found[name].dtype}" for name in both if found[name].dtype not in FLOAT_TYPES
        ],
    }
    for what, names in problems.items():
        if names:
            counted = what.format(len(names), "tensors" if len(names) > 1 else "tensor")
            raise AdapterLoadError(
                f"The weights of {source} {fault}: the file {counted} ({names_shown(names)}). The files are damaged or "
                "belong to different models; download them again."
            )


def not_whole(path: Path, error: SafetensorError) -> AdapterLoadError:
    """The error for a file that safetensors refuses."""
    return AdapterLoadError(f"{path} is not a whole safetensors file ({shown(str(error))[1:-1]}). Download it again.")


def _header_text(path: Path) -> bytes:
    """The JSON at the start of a file: 8 bytes give its length N (little-endian), then N bytes follow."""
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start == _GIT_LFS[:8] and file.read(len(_GIT_LFS) - 8) == _GIT_LFS[8:]:
            raise AdapterLoadError(f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull` there.")
        if MAX_HEADER_BYTES < length <= path.stat().st_size - 8:
            raise AdapterLoadError(f"{path} has a header of {length} bytes, more than {MAX_HEADER_BYTES}.")
        return file.read(min(length, MAX_HEADER_BYTES))
