"""An adapter's evaluation file: per condition and metric the mean and its interval."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..errors import PublishError

EVALUATION = "evaluation.json"
_TASK, _DATASET = "text-to-image", "evaluation"


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """An adapter's evaluation, None if there is none.

    Args:
        file: JSON with ``results``, a dict condition -> metric -> [mean, low, high]; optionally ``identities``, how
            many subjects were measured, and ``prompts``, a list.

    Raises:
        PublishError: The file is there, but not of this form.
    """
    if not file.is_file():
        return None
    try:
        evaluation = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PublishError(f"{file} is not JSON ({error}). Mend it, or take it out of the folder.") from error
    return check_evaluation(evaluation, str(file))


def check_evaluation(evaluation: Any, source: str) -> dict[str, Any]:
    """The evaluation, if it is of the form that ``read_evaluation`` describes.

    Raises:
        PublishError: It is not.
    """
    results = evaluation.get("results") if isinstance(evaluation, Mapping) else None
    if not isinstance(results, Mapping) or not results:
        raise PublishError(f'{source} must hold {{"results": {{condition: {{metric: [mean, low, high]}}}}}}.')
    for condition, row in results.items():
        if not isinstance(row, Mapping) or not row:
            raise PublishError(f"{source}: results[{condition!r}] must be a dict of metrics, got {row!r}.")
        for metric, value in row.items():
            if not _is_interval(value):
                raise PublishError(
                    f"{source}: results[{condition!r}][{metric!r}] must be [mean, low, high], three finite numbers, "
                    f"got {value!r}."
                )
    return dict(evaluation)


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """The results as a table in Markdown: a row per metric, a column per condition."""
    results = evaluation["results"]
    lines = ["| | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for metric in _metrics(results):
        cells = [_cell(row[metric]) if metric in row else "" for row in results.values()]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def evaluation_setting(evaluation: Mapping[str, Any]) -> str:
    """What was measured, as far as the file says it."""
    prompts, identities = evaluation.get("prompts"), evaluation.get("identities")
    parts = [
        f"{identities} subjects" if isinstance(identities, int) else "",
        f"{len(prompts)} prompts" if isinstance(prompts, list) else "",
    ]
    return ", ".join(filter(None, parts)) or "the author's own evaluation"


def eval_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """The results as the metadata of a model card has them."""
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=_DATASET,
            dataset_name=evaluation_setting(evaluation),
            metric_type=metric,
            metric_name=f"{metric} ({condition})",
            metric_value=mean,
            metric_args={"low": low, "high": high},
        )
        for condition, row in evaluation["results"].items()
        for metric, (mean, low, high) in row.items()
    ]


def is_ours(result: EvalResult) -> bool:
    """Whether a result of a card came from an evaluation file."""
    return (result.task_type, result.dataset_type) == (_TASK, _DATASET)


def _metrics(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(metric for row in results.values() for metric in row))


def _cell(value: list[float]) -> str:
    mean, low, high = value
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    )
