"""JSON files of bounded size, and values in error messages."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError


def shown(value: Any) -> str:
    """A value for an error message, without control characters and of bounded length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, lists in lists in lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 200 else f"{text[:200]}…"


def names_shown(names: Iterable[str]) -> str:
    """The first few names, for an error message."""
    listed = sorted(names)
    return ", ".join(shown(name).strip("'") for name in listed[:3]) + (" …" if len(listed) > 3 else "")


def read_json(path: Path, max_bytes: int) -> Any:
    """The content of a JSON file.

    Raises:
        AdapterLoadError: It is too large, is not JSON, or repeats a name.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise AdapterLoadError(f"{path} has {size} bytes, more than the {max_bytes} allowed. Download it again.")
    return parse_json(path.read_bytes(), str(path))


def parse_json(data: bytes, where: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON in valid Unicode, without NaN and infinities.

    Args:
        data: The text.
        where: What it belongs to, for messages.
        pairs: Makes an object from its (name, value) pairs; by default a dict, in which no name may occur twice.

    Raises:
        AdapterLoadError: It is not such JSON, or is nested too deeply.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=pairs or _unique, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # an unpaired surrogate is not valid text
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"{error}"[:200]
        raise AdapterLoadError(f"{where} is not valid JSON: {reason}. Download it again.") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
