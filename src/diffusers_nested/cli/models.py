"""What commands compute with: devices, number types, adapters and pipelines."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..environment.requirements import missing_extra
from ..errors import NestedAdapterError
from ..files import is_folder

DTYPES = ("float32", "float16", "bfloat16")
WHERE = ("subfolder", "weight_name", "subject_token")  # flags that say which adapter is meant


def check_offload(device: str) -> None:
    """Raise unless models can be offloaded to main memory while they are not in use.

    Raises:
        NestedAdapterError: There is no GPU, or accelerate is not installed.
    """
    from diffusers.utils import is_accelerate_available

    if device == "cpu":
        raise NestedAdapterError(
            "--offload keeps models in main memory until the GPU needs them, but there is no GPU. Leave it out."
        )
    if not is_accelerate_available():
        raise missing_extra("--offload needs", "train")


def adapter_words(
    adapters: Sequence[str],
    subfolder: str | None = None,
    weight_name: str | None = None,
    subject_token: str | None = None,
) -> list[str]:
    """The word of each adapter: the given one, or that of its configuration; no weights are downloaded.

    Raises:
        AdapterLoadError: A configuration cannot be read.
        NestedAdapterError: Two of them have the same word.
    """
    words: dict[str, str] = {}
    for adapter in adapters:
        word = subject_token or _word_of(adapter, subfolder, weight_name)
        if word in words:
            raise NestedAdapterError(
                f"--adapter {words[word]} and --adapter {adapter} both have the word {word!r}. Give only one of them."
            )
        words[word] = adapter
    return list(words)


def _word_of(adapter: str, subfolder: str | None, weight_name: str | None) -> str:
    from ..adapter import NestedAdapter
    from ..adapter.checks import DEFAULT_WORD
    from ..adapter.locate import is_configured, source_of
    from ..errors import Remedy
    from ..files import CONFIG_NAME

    source, name = source_of(adapter, subfolder, weight_name)
    if Path(adapter).is_file():
        return DEFAULT_WORD  # an IP-Adapter's
    if name is not None:
        config_file = source.find(source.within(CONFIG_NAME))
        if config_file is None or not is_configured(config_file):
            return DEFAULT_WORD
    _, config_file = source.pinned(source.within(CONFIG_NAME), Remedy.CONFIG)
    return NestedAdapter.from_config_file(config_file, adapter).config["subject_token"]


def load_pipeline(name: str, dtype: str, **settings: Any) -> Any:
    """Load a pipeline that supports adapters, on the CPU.

    Args:
        name: Repository or folder.
        dtype: Name of its number type.
        settings: Keywords for the pipeline's class.

    Raises:
        NestedAdapterError: It cannot be loaded, or does not support adapters.
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


def adapters_of(arguments: argparse.Namespace) -> list[str]:
    """Repositories and folders of the adapters; in the miniature, also the names of the bundled ones, after folders.

    Raises:
        NestedAdapterError: There is a pipeline, but no adapter for it.
    """
    from ..miniature import ADAPTERS, path

    if arguments.pipeline is None:
        bundled = {name: str(path(name)) for name in ADAPTERS}
        if not arguments.adapter:
            return list(bundled.values())
        named: Sequence[str] = arguments.adapter
        return [name if is_folder(name) else bundled.get(name, name) for name in named]
    if not arguments.adapter:
        raise NestedAdapterError("--pipeline needs an adapter: --adapter REPOSITORY_OR_FOLDER.")
    return arguments.adapter


def load_adapted(arguments: argparse.Namespace, adapters: Sequence[str], device: str) -> Any:
    """Load the pipeline with its adapters, where it is to compute.

    Args:
        arguments: With the flags of ``add_model_flags``.
        adapters: Of ``adapters_of``.
        device: Of ``usable_device``.

    Raises:
        NestedAdapterError: The pipeline or an adapter cannot be loaded.
    """
    from ..miniature import path

    if arguments.pipeline is None:
        pipeline = load_pipeline(str(path()), arguments.dtype or "float32", add_watermarker=False)
    else:
        usual = "float32" if device == "cpu" else "float16"
        pipeline = load_pipeline(arguments.pipeline, arguments.dtype or usual)
    given = {name: getattr(arguments, name) for name in (*WHERE, "image_encoder_folder", "mechanism")}
    pipeline.load_nested_adapter(adapters, **given)
    if arguments.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline


def call_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keywords for the pipeline's call, from the flags of ``add_setting_flags``."""
    names = ("num_inference_steps", "guidance_scale", "height", "width")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return given if arguments.pipeline else {"num_inference_steps": 20, "guidance_scale": 4.0, **given}


@contextmanager
def memory_in_words() -> Iterator[None]:
    """Turn a GPU's lack of memory into an error that says what to do.

    Raises:
        MemoryError: The GPU has too little memory.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError("The GPU has too little memory. Try --offload, or a smaller --height and --width.") from error
