"""The weights of a model: found, checked by their headers, and only then read."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import AdapterLoadError, Remedy
from .headers import TensorInfo, check_tensors, not_whole, read_header
from .index import read_index
from .json_files import shown
from .source import Source

Files = Mapping[Path, Collection[str] | None]


def find_weights(source: Source, folder: str | None, name: str, index: str) -> dict[Path, list[str] | None]:
    """Have the weights of a model on this machine: one file, or all that an index names.

    Args:
        source: Where the model is.
        folder: Its folder, from the top of the source.
        name: Name of the weights if they are one file.
        index: Name of the list of shards otherwise.

    Returns:
        The files, each with the tensors that the index says it holds, or None if there is no index.

    Raises:
        AdapterLoadError: There are no such weights, or not all of them, or the index is not valid.
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
                f"{source.location} lacks {prefix}{shard}, which {prefix}{index} names. Publish or copy it again."
            )
        shards[path] = tensors
    return shards


def load_weights(
    model: nn.Module, files: Files, source: str, dtype: torch.dtype | None, allow_others: bool = False
) -> None:
    """Give a model on the meta device its weights.

    Args:
        model: The model; its own tensors say which names and shapes are expected.
        files: See ``find_weights``.
        source: Where they come from, for messages.
        dtype: Type of the weights in memory; None for that in the files.
        allow_others: The files may hold tensors of other models, too, which are not read.

    Raises:
        AdapterLoadError: A file is damaged, or a tensor is missing, left over, of another shape, no float or not
            finite.
    """
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    checked = check_files(files, expected, source, allow_others)
    weights = {name: tensor for path, names in checked.items() for name, tensor in _read(path, names, dtype).items()}
    model.load_state_dict(weights, assign=True)
    _check_finite(model, source)


def check_files(
    files: Files, expected: Mapping[str, Sequence[int]], source: str, allow_others: bool = False
) -> dict[Path, list[str]]:
    """Raise unless the files hold the expected tensors; only their headers are read.

    Args:
        files: See ``find_weights``.
        expected: Name -> shape.
        source: Where they come from, for messages.
        allow_others: Other tensors, too, may be there.

    Returns:
        The files, each with the tensors to read from it.

    Raises:
        AdapterLoadError: A file is damaged, or a tensor is missing, left over, of another shape or no float.
    """
    found: dict[str, TensorInfo] = {}
    place: dict[str, Path] = {}
    for path, listed in files.items():
        header = read_header(path)
        if listed is not None and not allow_others and header.keys() != set(listed):
            name = min(header.keys() ^ set(listed))
            raise AdapterLoadError(
                f"{path} does not hold the tensors that the index says, such as {shown(name)}. The files are damaged "
                "or of two different adapters; download them again."
            )
        found |= header
        place |= dict.fromkeys(header, path)
    check_tensors(found, expected, source, allow_others)
    return {path: [name for name in expected if place[name] == path] for path in files}


def _read(path: Path, names: Collection[str], dtype: torch.dtype | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
            # copies: what was read lies in the file, which somebody may write to
            return {name: tensor.to(dtype or tensor.dtype, copy=True) for name, tensor in tensors.items()}
    except SafetensorError as error:  # it is not what it was when it was checked
        raise not_whole(path, error) from error


def _check_finite(model: nn.Module, source: str) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise AdapterLoadError(
                f"{source}: the tensor {name}, read as {parameter.dtype}, holds NaN or infinite values. Download it "
                "again."
            )
