"""Training of a ``NestedAdapter`` on a pipeline of any base family.

Names are loaded when they are first used: the command line reads ``TrainingConfig`` to print its help, without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import TrainingConfig

if TYPE_CHECKING:
    from .log import read_log
    from .memory import Memory, estimate_memory
    from .phases import train_in_phases
    from .phases_file import read_phases
    from .train import train_adapter

__all__ = [
    "Memory",
    "TrainingConfig",
    "estimate_memory",
    "read_log",
    "read_phases",
    "train_adapter",
    "train_in_phases",
]
_MODULES = {
    "Memory": ".memory",
    "estimate_memory": ".memory",
    "read_log": ".log",
    "read_phases": ".phases_file",
    "train_adapter": ".train",
    "train_in_phases": ".phases",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
