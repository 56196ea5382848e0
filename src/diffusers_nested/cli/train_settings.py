"""Flags of ``diffusers-nested train`` for the fields of ``TrainingConfig``."""

import argparse
import inspect
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from ..training import TrainingConfig


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field."""
    hints, described = typing.get_type_hints(TrainingConfig), _descriptions()
    for field in fields(TrainingConfig):
        settings = _argument(hints[field.name], field.default)
        action = parser.add_argument(f"--{field.name}", required=field.default is MISSING, **settings)
        action.help = _help(described.get(field.name, ""), field.default)  # here, as argparse adds to that of a switch


def _descriptions() -> dict[str, str]:
    """The description of each field in the docstring of ``TrainingConfig``."""
    text = inspect.getdoc(TrainingConfig) or ""
    listed = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(words.replace("``", "").split()) for name, words in entries}


def _help(description: str, default: Any) -> str:
    """A flag's help, with its default."""
    text = description.replace("%", "%%").removesuffix(".")
    if default is MISSING:
        return f"{text} (required)"
    return f"{text} (default: {'none' if default in (None, ()) else default})"


def _argument(hint: Any, default: Any) -> dict[str, Any]:
    """Keywords for argparse to read a field of this type."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType] or [hint]
    settings: dict[str, Any] = {} if default is MISSING else {"default": default}
    if kinds == [bool]:
        return {**settings, "action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is Sequence:
        return {**settings, "nargs": "*"}
    return {**settings, "type": next(kind for kind in (float, int, str) if kind in kinds)}
