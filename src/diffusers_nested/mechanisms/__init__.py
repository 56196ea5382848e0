"""How a subject enters a cross-attention layer: one small file per mechanism, and the registry."""

from ..errors import NestedAdapterError
from .base import KeyValueProjection, Mechanism, ValueProjection
from .decoupled import DECOUPLED
from .global_value import GLOBAL_VALUE
from .located import LOCATED
from .low_rank import low_rank_parts, lower_rank
from .multiple_tokens import MULTIPLE_TOKENS
from .nested import NESTED
from .simple import SIMPLE

MECHANISMS: dict[str, Mechanism] = {
    NESTED.name: NESTED,
    DECOUPLED.name: DECOUPLED,
    LOCATED.name: LOCATED,
    SIMPLE.name: SIMPLE,
    GLOBAL_VALUE.name: GLOBAL_VALUE,
    MULTIPLE_TOKENS.name: MULTIPLE_TOKENS,
}


def get_mechanism(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        NestedAdapterError: No mechanism has this name.
    """
    if not isinstance(name, str) or name not in MECHANISMS:
        raise NestedAdapterError(f"Unknown mechanism {name!r}. Known mechanisms: {', '.join(sorted(MECHANISMS))}.")
    return MECHANISMS[name]


def register_mechanism(mechanism: Mechanism) -> Mechanism:
    """Register a mechanism by its name, so that adapters can be built, loaded and run with it.

    Raises:
        NestedAdapterError: Another mechanism has this name.
    """
    if MECHANISMS.setdefault(mechanism.name, mechanism) is not mechanism:
        raise NestedAdapterError(
            f"Another mechanism is registered as {mechanism.name!r}. Choose a name other than "
            f"{', '.join(sorted(MECHANISMS))}."
        )
    return mechanism


__all__ = [
    "MECHANISMS",
    "KeyValueProjection",
    "Mechanism",
    "ValueProjection",
    "get_mechanism",
    "low_rank_parts",
    "lower_rank",
    "register_mechanism",
]
