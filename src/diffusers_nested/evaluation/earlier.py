"""Results in a comparison's folder from an earlier start: whether they belong to the same comparison."""

import json
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .rows import RESULTS, read_rows

SETTINGS = "settings.json"
_DIGESTS = ("pipeline_files", ".files", ".photos")
_LONGEST = 80  # characters of a value in a message
_LATER = ("pipeline_files",)  # unknown of results from before they were noted


def check_same(folder: Path, definition: dict[str, Any]) -> None:
    """Raise if the folder's results have other settings; contestants may be added, and scales to them.

    Raises:
        NestedAdapterError: Names the settings that differ.
    """
    path = folder / SETTINGS
    if not path.is_file():
        _check_empty(folder)
        return
    earlier = read_definition(path)
    now = json.loads(json.dumps(definition))
    known = [name for name in now if name in earlier or name not in _LATER]
    settings = [name for name in known if name != "contestants"]
    changed = [told for name in settings for told in _told(name, earlier.get(name), now[name])]
    for name, before in earlier["contestants"].items():
        after = now["contestants"].get(name)
        if after is not None and set(before.get("scales", ())) <= set(after["scales"]):
            before = {**before, "scales": after["scales"]}
        changed += _told(f"contestants.{name}", before, after)
    if changed:
        raise NestedAdapterError(
            f"{folder} holds results of other settings; these differ: {'; '.join(changed)}. Use another folder, or "
            "the settings in its settings.json; you may add contestants and scales."
        )


def _told(name: str, before: Any, now: Any) -> list[str]:
    """What differs in a setting, option by option; nothing if it is the same."""
    if before == now:
        return []
    if now is None:
        return [f"{name} is missing"]
    if isinstance(before, dict) and isinstance(now, dict):
        return [told for key in {**before, **now} for told in _told(f"{name}.{key}", before.get(key), now.get(key))]
    if name.endswith(_DIGESTS) and before is not None:
        return [f"{name}: the files have changed"]
    return [f"{name} was {_short(before)} and is {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def read_definition(path: Path) -> dict[str, Any]:
    """What a folder's results depend on, from its ``settings.json``.

    Raises:
        NestedAdapterError: The file is missing or damaged.
    """
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
