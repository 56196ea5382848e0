"""Devices that models can be put on."""

from ..errors import NestedAdapterError


def usable_device(name: str | None, named: str = "--device") -> str:
    """The device of this name, or the best one available.

    Args:
        name: Such as "cuda:1"; None for the best one.
        named: What messages call the setting.

    Raises:
        NestedAdapterError: It does not exist, or cannot be used for computations.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all of them for devices
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        there = ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
        raise NestedAdapterError(f"{named} {name!r} cannot be used. Choose one of {', '.join(there)}.") from error
    return name
