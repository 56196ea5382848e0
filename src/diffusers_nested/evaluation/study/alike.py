"""Whether folders of results can be compared with each other: the same settings of the call, the same subjects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import NestedAdapterError
from ..earlier import SETTINGS, read_definition


def check_alike(folders: Sequence[Path]) -> None:
    """Raise unless pictures of the folders differ by their contestants alone.

    Raises:
        NestedAdapterError: Names two folders and what differs: an option of the call, or the photos of a subject.
    """
    if len(folders) < 2:
        return
    first, *others = folders
    known = read_definition(first / SETTINGS)
    for folder in others:
        differing = _differing(known, read_definition(folder / SETTINGS))
        if differing:
            raise NestedAdapterError(
                f"{first} and {folder} cannot be compared: {'; '.join(differing)}. Evaluate both with the same call "
                "and the same subjects, or give subjects of other photos other names."
            )


def _differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    calls = left.get("call") or {}, right.get("call") or {}
    options = sorted({name for call in calls for name in call if calls[0].get(name) != calls[1].get(name)})
    found = [f"call.{name} is {calls[0].get(name)!r} and {calls[1].get(name)!r}" for name in options]
    subjects = left.get("subjects") or {}, right.get("subjects") or {}
    shared = [name for name in subjects[0] if name in subjects[1] and subjects[0][name] != subjects[1][name]]
    return found + [f"the subject {name!r} has other photos" for name in shared[:1]]
