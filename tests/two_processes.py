"""A command of the package in two processes, as ``torchrun --nproc_per_node 2`` launches it; they share the imports."""

import sys

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from diffusers_nested.cli import main
from diffusers_nested.evaluation import evaluate  # noqa: F401 (the commands import these: here, once for both)
from diffusers_nested.training import train_adapter  # noqa: F401

if __name__ == "__main__":
    one_machine = {"min_nodes": 1, "max_nodes": 1, "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    launched = elastic_launch(LaunchConfig(**one_machine, nproc_per_node=2, start_method="fork"), main)
    sys.exit(max(launched(sys.argv[1:]).values()))
