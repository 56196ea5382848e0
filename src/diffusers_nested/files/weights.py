"""Tensors of files whose headers have been checked."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import AdapterLoadError


def read_weights(files: Mapping[Path, Collection[str] | None], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Tensors of checked files, in memory of their own.

    Args:
        files: Each with the names of the tensors to read, or None for all.
        dtype: Their type in memory; None for that in the file.

    Raises:
        AdapterLoadError: A file is not what it was when it was checked.
    """
    return {name: tensor for path, names in files.items() for name, tensor in _read(path, names, dtype)}


def _read(path: Path, names: Collection[str] | None, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys() if names is None else names:
                tensor = file.get_tensor(name)
                # a copy: what was read lies in the file, which somebody may write to
                yield name, tensor.to(dtype or tensor.dtype, copy=True)
    except SafetensorError as error:
        raise AdapterLoadError(f"{path} is not a whole safetensors file ({error}). Download it again.") from error


def check_finite(model: nn.Module, source: str) -> None:
    """Raise unless all weights are finite numbers.

    Raises:
        AdapterLoadError: Names the first tensor that holds NaN or infinite values.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise AdapterLoadError(
                f"{source}: the tensor {name}, read as {parameter.dtype}, holds NaN or infinite values. Download it "
                "again."
            )
