"""Which pairs of words training may use, and which are kept apart for testing."""

import zlib
from collections.abc import Sequence
from functools import cache
from itertools import pairwise


@cache
def is_held_out(pair: str) -> bool:
    """True for the one pair of words in five that is never used in training, by the checksum of its text."""
    return zlib.crc32(pair.encode()) % 5 == 0


def pairs_of(words: Sequence[str]) -> list[str]:
    """The pairs of neighbours."""
    return [f"{a} | {b}" for a, b in pairwise(words)]


def on_side(options: Sequence[tuple[str, ...]], held_out: bool) -> list[tuple[str, ...]]:
    """Those of the options that training never uses, as every pair in them is held out; or those that it may use.

    Where there is none that is held out, all are given: such words are no test, and no harm.
    """
    return [o for o in options if all(is_held_out(pair) == held_out for pair in pairs_of(o))] or list(options)
