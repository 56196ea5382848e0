"""Several processes that share a piece of work, as ``accelerate launch`` and ``torchrun`` start them."""

import os
from datetime import timedelta
from typing import Any

import torch

from ..errors import NestedAdapterError
from .requirements import missing_extra


def launched_processes() -> int:
    """How many processes this one is of, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(on_cpu: bool = False, patience: timedelta | None = None) -> Any:
    """Meet the processes that were launched with this one.

    Args:
        on_cpu: Compute on the CPU even if there is an accelerator.
        patience: How long to wait for the others; by default as long as torch does.

    Returns:
        accelerate's ``PartialState``.

    Raises:
        NestedAdapterError: accelerate is missing, or takes this process for the only one.
    """
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise missing_extra("Several processes need", "train") from error
    # without cpu=True, processes on a machine without an accelerator are taken for one each
    waiting = {} if patience is None else {"timeout": patience}
    state = PartialState(cpu=on_cpu or not torch.accelerator.is_available(), **waiting)
    if state.num_processes != launched_processes():
        raise NestedAdapterError(
            f"{launched_processes()} processes were launched, but accelerate sees {state.num_processes}: it was set up "
            "in this process before. Do not make an Accelerator or a PartialState of your own first."
        )
    return state
