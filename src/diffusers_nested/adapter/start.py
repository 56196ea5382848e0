"""Settings of an adapter that begins with the weights of another one."""

from collections.abc import Mapping
from typing import Any

from ..errors import NestedAdapterError
from ..files import shown
from .checks import acting_mechanism

# What the weights leave open: how the subject enters a layer, names, and the form in which differences are kept
_LEFT_OPEN = ("mechanism", "alpha", "subject_token", "image_encoder", "projection_rank")


def settings_from(start: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a new adapter: those given, else those of the adapter to start from.

    Args:
        start: The configuration of that adapter.
        given: Settings of the new one; ``mechanism`` is "nested" by default.

    Raises:
        NestedAdapterError: The weights belong to another value of a setting, or the mechanism reads other projections.
    """
    own = {name: value for name, value in start.items() if not name.startswith("_")}
    for name, value in given.items():
        if name not in _LEFT_OPEN and value != own.get(name):
            has = f"has {shown(own[name])}" if name in own else "has no such setting"
            raise NestedAdapterError(
                f"{name} is {shown(value)}, but the adapter to start from {has}, and its weights are used. Leave out "
                f"{name}, or start_from=..."
            )
    mechanism, alpha = acting_mechanism(own, given.get("mechanism", "nested"))
    return {**own, "alpha": alpha, **given, "mechanism": mechanism.name}
