"""Values of flags, checked while the command line is parsed."""

import argparse
import math
from collections.abc import Callable


def whole(least: int, most: float = math.inf, multiple_of: int = 1) -> Callable[[str], int]:
    """A parser for whole numbers from ``least`` to ``most``."""
    expected = f"a whole number of at least {least}"
    if multiple_of > 1:
        expected = f"a multiple of {multiple_of}"
    elif most < math.inf:
        expected = f"a whole number from {least} to {most}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most or value % multiple_of:
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return read


def number(least: float, most: float = 3.4e38) -> Callable[[str], float]:
    """A parser for finite numbers from ``least`` up; ``most`` is the limit of float32."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a finite number of at least {least:g}, got {text!r}")
        return value

    return read


def number_or_none(text: str) -> float | None:
    """A number, or None for "none"."""
    return None if text == "none" else float(text)


def whole_or_none(text: str) -> int | None:
    """A whole number, or None for "none"."""
    return None if text == "none" else int(text)


SEED = whole(0, 2**63 - 1)
