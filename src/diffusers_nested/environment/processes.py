"""Processes that share work, started by ``accelerate launch`` or ``torchrun``."""

import os
from datetime import timedelta
from typing import Any

import torch

from ..errors import NestedAdapterError
from .requirements import missing_extra


def launched_processes() -> int:
    """The number of processes that the launcher started, including this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(on_cpu: bool = False, patience: timedelta | None = None) -> Any:
    """Join the processes that were launched together with this one.

    Args:
        on_cpu: Compute on the CPU even if there is an accelerator.
        patience: How long to wait for the others; defaults to torch's timeout.

    Returns:
        accelerate's ``PartialState``.

    Raises:
        NestedAdapterError: accelerate is missing, or sees only this process.
    """
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise missing_extra("Several processes need", "train") from error
    # without cpu=True, each process on a machine without an accelerator would count as the only one
    waiting = {} if patience is None else {"timeout": patience}
    state = PartialState(cpu=on_cpu or not torch.accelerator.is_available(), **waiting)
    if state.num_processes != launched_processes():
        raise NestedAdapterError(
            f"{launched_processes()} processes were launched, but accelerate sees {state.num_processes}: it was "
            "initialised earlier in this process. Do not create an Accelerator or a PartialState before this call."
        )
    return state


def process_index() -> int:
    """Number of this process among those that were launched, from 0.

    Raises:
        NestedAdapterError: ``RANK`` and ``WORLD_SIZE`` in the environment do not fit together.
    """
    index, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise NestedAdapterError(
            f"RANK is {index!r} and WORLD_SIZE {count!r}, expected a whole number from 0 to below the other. Set both, "
            "or start the processes with `accelerate launch`."
        )
    return int(index)
