"""How a subject enters a cross-attention layer: one small file per mechanism, and the registry."""

from ..errors import NestedAdapterError
from .base import Mechanism
from .nested import NESTED

MECHANISMS: dict[str, Mechanism] = {NESTED.name: NESTED}


def get_mechanism(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        NestedAdapterError: No mechanism has this name.
    """
    if not isinstance(name, str) or name not in MECHANISMS:
        raise NestedAdapterError(f"Unknown mechanism {name!r}. Known mechanisms: {', '.join(sorted(MECHANISMS))}.")
    return MECHANISMS[name]


__all__ = ["MECHANISMS", "Mechanism", "get_mechanism"]
