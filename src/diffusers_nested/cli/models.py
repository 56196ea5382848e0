"""What a command computes with: devices, number types, adapters, pipelines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..environment.requirements import missing_extra
from ..errors import NestedAdapterError

DTYPES = ("float32", "float16", "bfloat16")


def usable_device(name: str | None) -> str:
    """The device of this name, or the best there is.

    Raises:
        NestedAdapterError: There is none, or nothing can be computed on it.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all of them for devices
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        there = ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
        raise NestedAdapterError(
            f"--device {name!r}: nothing can be computed there. Usable: {', '.join(there)}."
        ) from error
    return name


def check_offload(device: str) -> None:
    """Raise unless models can wait in main memory for their turn on the device.

    Raises:
        NestedAdapterError: There is no GPU, or accelerate is not installed.
    """
    from diffusers.utils import is_accelerate_available

    if device == "cpu":
        raise NestedAdapterError("--offload keeps models in main memory until the GPU needs them; here is no GPU.")
    if not is_accelerate_available():
        raise missing_extra("--offload needs", "train")


def adapter_words(adapters: Sequence[str]) -> list[str]:
    """The word of each adapter, from its configuration alone.

    Raises:
        AdapterLoadError: One cannot be read.
        NestedAdapterError: Two have the same word.
    """
    from ..adapter import NestedAdapter
    from ..files import CONFIG_NAME
    from ..files.source import Source

    words: dict[str, str] = {}
    for adapter in adapters:
        if Path(adapter).is_file():
            raise NestedAdapterError(f"--adapter {adapter} is a file. Name the folder that holds it and a config.json.")
        _, config_file = Source(adapter).pinned(CONFIG_NAME)
        word = NestedAdapter.from_config_file(config_file, adapter).config["subject_token"]
        if word in words:
            raise NestedAdapterError(
                f"--adapter {words[word]} and --adapter {adapter} are both for the word {word!r}. Name one of them."
            )
        words[word] = adapter
    return list(words)


def load_pipeline(name: str, dtype: str, **settings: Any) -> Any:
    """A pipeline that adapters can act in, on the CPU.

    Args:
        name: Repository or folder.
        dtype: Name of its number type.
        settings: Of the pipeline's class.

    Raises:
        NestedAdapterError: It cannot be loaded, or is of another kind.
    """
    import torch
    from diffusers import AutoPipelineForText2Image

    from ..backbones import titles

    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(name, dtype=getattr(torch, dtype), **settings)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise NestedAdapterError(f"--pipeline {name} cannot be loaded: {reason}") from error
    if not hasattr(pipeline, "load_nested_adapter"):
        raise NestedAdapterError(
            f"--pipeline {name} is a {type(pipeline).__name__}. Nested adapters are for {titles()}."
        )
    return pipeline
