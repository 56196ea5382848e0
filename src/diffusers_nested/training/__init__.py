"""Training of a ``NestedAdapter`` on any SDXL pipeline."""

from .config import TrainingConfig
from .log import read_log
from .train import train_adapter

__all__ = ["TrainingConfig", "read_log", "train_adapter"]
