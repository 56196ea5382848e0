"""A model's weights: located, checked by their headers, and only then read."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import AdapterLoadError, Remedy
from .headers import OTHER_CONFIG, TensorInfo, check_tensors, not_whole, read_header
from .index import read_index
from .json_files import shown
from .source import Source

Files = Mapping[Path, Collection[str] | None]
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Stored(NamedTuple):
    """Where a file of another format has a tensor.

    Attributes:
        name: Its name there.
        part: Which part of that tensor it is, along the first dimension.
        parts: How many equal parts there are.
    """

    name: str
    part: int = 0
    parts: int = 1


def check_dtype(dtype: Any) -> None:
    """Raise unless this is None or a type that adapters compute with.

    Raises:
        AdapterLoadError: It is neither.
    """
    if dtype is not None and not any(dtype is one for one in _TYPES):
        raise AdapterLoadError(
            f"torch_dtype is {shown(dtype)}, expected None or one of {', '.join(map(str, _TYPES))}. Pass the type "
            "itself, not its name."
        )


def find_weights(source: Source, folder: str | None, name: str, index: str) -> dict[Path, list[str] | None]:
    """Locate the weights of a model, and download them if necessary: a single file, or the shards of an index.

    Args:
        source: Where the model is.
        folder: The model's folder, relative to the top of the source.
        name: Name of the single file.
        index: Name of the index, used if there is no single file.

    Returns:
        Local path -> names of the tensors in it according to the index, or None without an index.

    Raises:
        AdapterLoadError: The weights are missing or incomplete, or the index is invalid.
    """
    prefix = f"{folder}/" if folder else ""
    whole = source.find(prefix + name)
    if whole is not None:
        return {whole: None}
    listed = source.find(prefix + index)
    if listed is None:
        raise AdapterLoadError(f"{source.location} has no weights {shown(prefix + name)[1:-1]}. {Remedy.WEIGHTS}")
    shards: dict[Path, list[str] | None] = {}
    for shard, tensors in read_index(listed).items():
        path = source.find(prefix + shard)
        if path is None:
            raise AdapterLoadError(
                f"{source.location} lacks {prefix}{shard}, which {prefix}{index} lists. Publish or copy it again."
            )
        shards[path] = tensors
    return shards


def load_weights(
    model: nn.Module,
    files: Files,
    source: str,
    dtype: torch.dtype | None,
    allow_others: bool = False,
    stored: Mapping[str, Stored] | None = None,
    fault: str = OTHER_CONFIG,
) -> None:
    """Load weights into a model on the meta device.

    Args:
        model: The model; its tensors define the expected names and shapes.
        files: The files, as ``find_weights`` returns them.
        source: Where they come from, for messages.
        dtype: Type of the weights in memory; None keeps the type in the files.
        allow_others: Ignore tensors in the files that the model does not have.
        stored: Where the files have each of the model's tensors, if not under the same name.
        fault: What is wrong with weights that are not the expected ones, for the message.

    Raises:
        AdapterLoadError: A file is damaged, or a tensor is missing, unexpected, of another shape, not floating-point
            or not finite.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: Stored(name) for name in shapes} if stored is None else stored
    expected = {stored[name].name: (stored[name].parts * length, *rest) for name, (length, *rest) in shapes.items()}
    checked = check_files(files, expected, source, allow_others, fault)
    read = {name: tensor for path, names in checked.items() for name, tensor in _read(path, names, dtype).items()}
    model.load_state_dict({name: _part(read[one.name], one) for name, one in stored.items()}, assign=True)
    _check_finite(model, source)


def check_files(
    files: Files,
    expected: Mapping[str, Sequence[int]],
    source: str,
    allow_others: bool = False,
    fault: str = OTHER_CONFIG,
) -> dict[Path, list[str]]:
    """Raise unless the files contain the expected tensors; only the headers are read.

    Args:
        files: The files, as ``find_weights`` returns them.
        expected: Name -> shape.
        source: Where they come from, for messages.
        allow_others: Ignore tensors that are not expected.
        fault: What is wrong with weights that are not the expected ones, for the message.

    Returns:
        Local path -> names of the tensors to read from it.

    Raises:
        AdapterLoadError: A file is damaged, or a tensor is missing, unexpected, of another shape or not
            floating-point.
    """
    found: dict[str, TensorInfo] = {}
    place: dict[str, Path] = {}
    for path, listed in files.items():
        header = read_header(path)
        if listed is not None and not allow_others and header.keys() != set(listed):
            name = min(header.keys() ^ set(listed))
            raise AdapterLoadError(
                f"{path} and the index disagree about its tensors, for example {shown(name)}. The files are damaged or "
                "belong to two different adapters; download them again."
            )
        found |= header
        place |= dict.fromkeys(header, path)
    check_tensors(found, expected, source, allow_others, fault)
    return {path: [name for name in expected if place[name] == path] for path in files}


def _read(path: Path, names: Collection[str], dtype: torch.dtype | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
            # copies, as what was read is mapped from the file, which may be overwritten
            return {name: tensor.to(dtype or tensor.dtype, copy=True) for name, tensor in tensors.items()}
    except SafetensorError as error:  # the file changed after it was checked
        raise not_whole(path, error) from error


def _part(tensor: Tensor, stored: Stored) -> Tensor:
    """A part has memory of its own: tensors that share it could not be saved."""
    return tensor if stored.parts == 1 else tensor.chunk(stored.parts)[stored.part].clone()


def _check_finite(model: nn.Module, source: str) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise AdapterLoadError(
                f"{source}: the tensor {name}, read as {parameter.dtype}, holds NaN or infinite values. Download it "
                "again."
            )
