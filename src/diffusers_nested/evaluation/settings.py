"""Settings of a comparison, from a TOML file or from Python."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ..errors import NestedAdapterError
from ..files.rules import FLAG, Rule, check_settings, list_of, number, one_of, whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


def _is_device(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(torch.device(value))
    except RuntimeError:
        return False


def _differing(rule: Rule, form: str, expected: str) -> Rule:
    """A list whose values follow a rule and differ as they are written in this form."""
    values = list_of(rule)

    def is_valid(given: Any) -> bool:
        return values.is_valid(given) and len({format(one, form) for one in given}) == len(given)

    return Rule(is_valid, expected)


def _table(what: str, least: int = 1) -> Rule:
    return Rule(lambda value: isinstance(value, Mapping) and len(value) >= least, what)


_NAME = Rule(lambda value: isinstance(value, str | Path) and bool(str(value).strip()), "a name")
_COLUMN = Rule(lambda value: isinstance(value, str), "a column")
SCALES = _differing(
    number(0), "g", "numbers of at least 0 that differ in their first six digits, by which files are called"
)
_RULES: Mapping[str, Rule] = {
    "output": _NAME,
    "pipeline": _NAME,
    "device": Rule(_is_device, 'a device, such as "cuda" or "cpu"').or_none(),
    "seeds": _differing(whole(0), "d", "numbers of at least 0 that differ, or how many, 1 or more"),
    "scales": SCALES,
    "batch_size": whole(1),
    "contestants": _table("a table with at least one contestant"),
    "metrics": _table("a table with at least one metric"),
    "call": _table("a table of keywords", least=0),
    "save_pictures": FLAG,
    "dtype": one_of("float32", "float16", "bfloat16").or_none(),
    "x": _COLUMN,
    "y": _COLUMN,
}


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of one comparison; paths are relative to the working directory.

    Attributes:
        output: Folder for everything; an interrupted comparison resumes in it.
        subjects: See ``load_references``.
        prompts: A list, a file with one per line, or the name of a world. ``{}`` stands for the subject's word.
        contestants: Per name, ``kind`` and what the kind needs; see ``make_contestant``. ``scales`` in the table
            override ``scales`` below.
        metrics: Per column, a kind or a table with ``kind`` and its options; see ``make_metric``.
        pipeline: Repository or folder of a pipeline, or the name of a world.
        seeds: A list of seeds of the noise, or how many.
        scales: Strengths at which contestants are measured.
        call: Keywords for the pipeline's call, such as ``num_inference_steps``.
        batch_size: Pictures per call.
        save_pictures: Whether to keep pictures. Those of the plain pipeline are kept anyway if metrics need them.
        device: Such as ``"cuda"``; by default CUDA if there is one.
        dtype: The pipeline's: ``"float32"``, ``"float16"`` or ``"bfloat16"``; by default float32 on the CPU and float16
            elsewhere.
        x: Column of the horizontal axis of the plot.
        y: Column of the vertical axis of the plot.

    Raises:
        NestedAdapterError: A value is not as described.
    """

    output: str | Path
    subjects: Any
    prompts: Any
    contestants: Mapping[str, Any]
    metrics: Mapping[str, Any]
    pipeline: str = "miniature"
    seeds: int | Sequence[int] = 1
    scales: Sequence[float] = (1.0,)
    call: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 4
    save_pictures: bool = True
    device: str | None = None
    dtype: str | None = None
    x: str = "text"
    y: str = "identity"

    def __post_init__(self) -> None:
        if isinstance(self.seeds, int) and not isinstance(self.seeds, bool) and self.seeds > 0:
            object.__setattr__(self, "seeds", tuple(range(self.seeds)))
        check_settings(vars(self), _RULES)

    @property
    def folder(self) -> Path:
        """``output`` as a path."""
        return Path(self.output)

    def scales_of(self, name: str) -> tuple[float, ...]:
        """Strengths at which a contestant is measured.

        Raises:
            NestedAdapterError: Its own scales are not valid.
        """
        table = self.contestants[name]
        own = table.get("scales", self.scales) if isinstance(table, Mapping) else self.scales
        SCALES.check(f"contestants.{name}.scales", own)
        return tuple(map(float, own))


def read_settings(path: str | Path, **changes: Any) -> EvaluationSettings:
    """Read settings from a TOML file.

    Args:
        path: The file; its keys are the fields of ``EvaluationSettings``.
        **changes: Fields that override those of the file.

    Raises:
        NestedAdapterError: The file does not exist or is not TOML, a key is unknown or missing, or a value is invalid.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NestedAdapterError(f"Cannot read the settings {path}: {error}") from error
    table.update(changes)
    known = [one.name for one in fields(EvaluationSettings)]
    unknown = [key for key in table if key not in known]
    needed = ("output", "subjects", "prompts", "contestants", "metrics")
    missing = [key for key in needed if key not in table]
    if unknown or missing:
        faults = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise NestedAdapterError(f"{path} has wrong settings ({'; '.join(faults)}). It takes: {', '.join(known)}.")
    return EvaluationSettings(**table)
