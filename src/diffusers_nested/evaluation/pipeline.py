"""The pipeline of a comparison."""

from typing import Any

import torch

from ..backbones import titles
from ..errors import NestedAdapterError
from .worlds import WORLDS


def load_pipeline(name: str, device: str, dtype: str | None = None) -> Any:
    """Load a pipeline onto a device, without progress bars.

    Args:
        name: Repository, folder, or name of a world.
        device: Its device.
        dtype: Name of its dtype; by default float32 on the CPU and float16 elsewhere.

    Raises:
        NestedAdapterError: It cannot be loaded, or does not support adapters.
    """
    kind = getattr(torch, dtype or ("float32" if device == "cpu" else "float16"))
    if name in WORLDS:
        pipeline = WORLDS[name].pipeline()
        pipeline = pipeline if pipeline.dtype == kind else pipeline.to(dtype=kind)
    else:
        from diffusers import AutoPipelineForText2Image

        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(name, torch_dtype=kind)
        except (OSError, ValueError) as error:
            raise NestedAdapterError(
                f"The pipeline {name!r} cannot be loaded: {error}. Name a repository, a folder, or a world "
                f"({', '.join(sorted(WORLDS))})."
            ) from error
    if not hasattr(pipeline, "load_nested_adapter"):
        raise NestedAdapterError(
            f"{name} must be a pipeline of {titles()}, got a {type(pipeline).__name__}. Name another."
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
