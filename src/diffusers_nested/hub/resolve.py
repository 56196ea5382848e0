"""From a repository id or a folder to an adapter."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..adapter import NestedAdapter
from ..adapter_checks import check_loaded_config, check_weights
from ..errors import AdapterLoadError
from .source import Source, fetch_weights


def pin_adapter(source: Source) -> Source:
    """The source of an adapter at the commit that it is at now; only its config.json is read.

    Raises:
        AdapterLoadError: It cannot be read, or holds no configuration.
    """
    if Path(source.location).exists() and not source.is_folder:
        raise AdapterLoadError(
            f"{source.location} is a file. Name the folder that holds the adapter's config.json, and the file as "
            f"weight_name={Path(source.location).name!r}."
        )
    return source.pinned(source.within("config.json"))


def load_adapter(
    source: Source,
    weight_name: str | None = None,
    variant: str | None = None,
    torch_dtype: torch.dtype | None = None,
) -> NestedAdapter:
    """Load an adapter's configuration and weights.

    The configuration is checked before any weights are downloaded.

    Args:
        source: Where it is.
        weight_name: File of the weights, if not the one that diffusers writes.
        variant: Such as "fp16", for ``diffusion_pytorch_model.fp16.safetensors``.
        torch_dtype: Type of the weights; by default as they are stored.

    Raises:
        AdapterLoadError: Not an adapter, or not a whole one, or it cannot be read.
    """
    source = pin_adapter(source)
    config = _config(source)
    if weight_name is not None:
        path = source.find(source.within(weight_name))
        if path is None:
            raise AdapterLoadError(
                f"{source.location} has no file {weight_name!r}. Name a .safetensors file that it has."
            )
        return _from_file(config, path, torch_dtype)
    fetch_weights(
        source,
        source.subfolder,
        _with_variant(SAFETENSORS_WEIGHTS_NAME, variant),
        _with_variant(SAFE_WEIGHTS_INDEX_NAME, variant),
    )
    folder = source.local_folder(source.within("config.json"))
    # everything is here: from now on diffusers reads a folder
    return NestedAdapter.from_pretrained(folder, subfolder=source.subfolder, variant=variant, torch_dtype=torch_dtype)


def _config(source: Source) -> Any:
    folder = source.local_folder(source.within("config.json"))
    try:
        config = NestedAdapter.load_config(folder, subfolder=source.subfolder)
    except OSError as error:
        raise AdapterLoadError(f"The config.json of {source.location} cannot be read: {error}") from error
    check_loaded_config(config, NestedAdapter.__name__, source.location)
    return config


def _with_variant(name: str, variant: str | None) -> str:
    """``model.safetensors`` → ``model.fp16.safetensors``, as diffusers names variants."""
    stem, _, suffix = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{suffix}"


def _from_file(config: Any, path: Path, torch_dtype: torch.dtype | None) -> NestedAdapter:
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise AdapterLoadError(f"{path} is not a whole safetensors file ({error}). Download it again.") from error
    adapter: Any = NestedAdapter.from_config(config)
    expected = adapter.state_dict()
    wrong = [name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape]
    report = {
        "missing_keys": expected.keys() - state.keys(),
        "unexpected_keys": state.keys() - expected.keys(),
        "mismatched_keys": wrong,
    }
    check_weights(adapter, report, str(path))
    adapter.load_state_dict(state)
    check_weights(adapter, {"missing_keys": (), "unexpected_keys": ()}, str(path))
    dtype = torch_dtype or next(iter(state.values())).dtype
    return adapter.to(dtype).eval()
