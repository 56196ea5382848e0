"""Results in a comparison's folder from an earlier start: whether they belong to the same comparison."""

import json
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .rows import RESULTS, read_rows

SETTINGS = "settings.json"
_LATER = ("pipeline_files",)  # unknown of results from before they were noted


def check_same(folder: Path, definition: dict[str, Any]) -> None:
    """Raise if the folder's results have other settings; contestants may be added.

    Raises:
        NestedAdapterError: Names the settings that differ.
    """
    path = folder / SETTINGS
    if not path.is_file():
        _check_empty(folder)
        return
    earlier = _earlier(path)
    now = json.loads(json.dumps(definition))
    known = [name for name in now if name in earlier or name not in _LATER]
    changed = [name for name in known if name != "contestants" and now[name] != earlier.get(name)]
    there = earlier["contestants"]
    changed += [f"contestants.{name}" for name in there if there[name] != now["contestants"].get(name)]
    if changed:
        raise NestedAdapterError(
            f"{folder} holds results of other settings; these differ: {', '.join(changed)}. Use another folder, or "
            "the settings in its settings.json; you may add contestants."
        )


def _earlier(path: Path) -> dict[str, Any]:
    """The definition of a folder's results."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NestedAdapterError(
            f"Cannot read {path}: {error}. It says what the results depend on; if it is lost, use another folder."
        ) from error
    if not isinstance(earlier, dict) or not isinstance(earlier.get("contestants"), dict):
        raise NestedAdapterError(f"{path} does not hold the settings of a comparison. Use another folder.")
    return earlier


def _check_empty(folder: Path) -> None:
    """Raise if there are results without settings.

    Raises:
        NestedAdapterError: There are.
    """
    found = [path.name for path in (folder / RESULTS, *folder.glob("rows-*.jsonl")) if read_rows(path)]
    if found:
        raise NestedAdapterError(f"{folder} holds results ({found[0]}) but not their {SETTINGS}. Use another folder.")
