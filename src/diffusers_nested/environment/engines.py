"""How the launcher wants what is trained to be held by the processes: whole in each, or spread over all."""

import os

from ..errors import NestedAdapterError
from .processes import launched_processes


def spreads_weights() -> bool:
    """Whether weights, gradients and moments are to be spread over several processes, by FSDP2.

    ``accelerate launch`` sets these variables as its configuration file says.

    Raises:
        NestedAdapterError: It asks for FSDP1 or DeepSpeed.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        raise NestedAdapterError(
            "The launcher asks for DeepSpeed, which training does not support. Use FSDP2, with fsdp_version: 2 in "
            "accelerate's configuration; with fsdp_reshard_after_forward: false, it is what ZeRO-2 is."
        )
    if not _is_set("ACCELERATE_USE_FSDP"):
        return False
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise NestedAdapterError(
            f"The launcher asks for version {version} of FSDP, but training needs version 2. Set fsdp_version: 2 in "
            "accelerate's configuration, with accelerate 1.6 or later."
        )
    return launched_processes() > 1


def frees_after_forward() -> bool:
    """Whether spread weights are freed between forward and backward pass: less memory, one more exchange of weights."""
    return _is_set("FSDP_RESHARD_AFTER_FORWARD", "true")


def _is_set(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("true", "1")
