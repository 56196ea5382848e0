"""Phases of a training in a TOML file: a table ``[[phase]]`` for each."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .config import OF_ALL_PHASES, TrainingConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

_KEY = "phase"
_KNOWN = [one.name for one in fields(TrainingConfig) if one.name not in OF_ALL_PHASES]


def read_phases(file: str | Path, **common: Any) -> list[TrainingConfig]:
    """Read the settings of all phases, for ``train_in_phases``.

    Args:
        file: Has a table ``[[phase]]`` for each phase, in their order, whose keys are fields of ``TrainingConfig``.
        **common: Settings of all phases, which those of a phase override.

    Raises:
        NestedAdapterError: The file is not as described, or a value is invalid; names file, phase and setting.
    """
    tables = _tables(Path(file))
    return [_config(f"{file}, phase {number}", table, common) for number, table in enumerate(tables, 1)]


def _tables(file: Path) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NestedAdapterError(f"Cannot read the phases {file}: {error}") from error
    outside = [key for key in content if key != _KEY]
    if outside:
        raise NestedAdapterError(
            f"{file} has {', '.join(outside)} outside of a phase. Begin each phase with a line [[{_KEY}]] and put its "
            "settings below; those of all phases are given outside of the file."
        )
    tables = content.get(_KEY, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables) or not tables:
        raise NestedAdapterError(f"{file} has no list of phases. Begin each phase with a line [[{_KEY}]].")
    return tables


def _config(where: str, table: Mapping[str, Any], common: Mapping[str, Any]) -> TrainingConfig:
    fixed = [key for key in table if key in OF_ALL_PHASES]
    if fixed:
        raise NestedAdapterError(
            f"{where}: {', '.join(fixed)} must be the same in all phases; set it outside of the file."
        )
    unknown = [_guessed(key) for key in table if key not in _KNOWN]
    if unknown:
        raise NestedAdapterError(
            f"{where}: unknown settings: {', '.join(unknown)}. A phase takes: {', '.join(_KNOWN)}. Models, data and "
            "the adapter are the same in all phases."
        )
    try:
        return TrainingConfig(**{**common, **table})
    except NestedAdapterError as error:
        raise NestedAdapterError(f"{where}: {error}") from error


def _guessed(key: str) -> str:
    """A misspelt key, with what may be meant."""
    close = get_close_matches(key, _KNOWN, 1)
    return f"{key} ({close[0]}?)" if close else key
