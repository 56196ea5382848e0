"""An adapter's evaluation file: a mean with its interval for each condition and metric."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..errors import PublishError
from ..files import shown
from ..files.rules import Rule, check_settings, list_of, number, whole
from .own_files import read_own_json
from .quoting import markdown_text

EVALUATION = "evaluation.json"
MAX_SCORE = 1e12
MAX_NAME = 200  # characters
_TASK, _DATASET = "text-to-image", "evaluation"


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """Read an adapter's evaluation; None if there is none.

    Args:
        file: JSON with ``results``, a dict condition -> metric -> [mean, low, high]; optionally ``identities``, the
            number of subjects measured, and ``prompts``, a list.

    Raises:
        PublishError: The file exists, but has another form.
    """
    return check_evaluation(read_own_json(file), str(file)) if file.exists() else None


def check_evaluation(evaluation: Any, source: str) -> dict[str, Any]:
    """Check that an evaluation has the form that ``read_evaluation`` describes, and return it.

    Raises:
        PublishError: It has another form.
    """
    results = evaluation.get("results") if isinstance(evaluation, Mapping) else None
    if not isinstance(results, Mapping) or not results:
        raise PublishError(f'{source} must contain {{"results": {{condition: {{metric: [mean, low, high]}}}}}}.')
    for condition, row in results.items():
        _check_name(condition, source)
        if not isinstance(row, Mapping) or not row:
            raise PublishError(f"{source}: results[{condition!r}] must be a dict of metrics, got {shown(row)}.")
        for metric, value in row.items():
            _check_name(metric, source)
            if not _INTERVAL.is_valid(value):
                raise PublishError(
                    f"{source}: results[{condition!r}][{metric!r}] must be [mean, low, high], three finite numbers of "
                    f"at most {MAX_SCORE:g}, got {shown(value)}."
                )
    check_settings(evaluation, _SETTING, source, PublishError)
    return dict(evaluation)


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """The results as a Markdown table with a row per metric and a column per condition."""
    results = evaluation["results"]
    lines = ["| | " + " | ".join(map(markdown_text, results)) + " |", "|---" * (len(results) + 1) + "|"]
    for metric in _metrics(results):
        cells = [_cell(row[metric]) if metric in row else "" for row in results.values()]
        lines.append(f"| {markdown_text(metric)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def evaluation_setting(evaluation: Mapping[str, Any]) -> str:
    """What was measured, as far as the file says."""
    prompts, identities = evaluation.get("prompts"), evaluation.get("identities")
    parts = [
        "" if identities is None else f"{identities} subjects",
        "" if prompts is None else f"{len(prompts)} prompts",
    ]
    return ", ".join(filter(None, parts)) or "the author's own evaluation"


def eval_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """The results in the form of a model card's metadata."""
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
    """Whether a result in a card came from an evaluation file."""
    return (result.task_type, result.dataset_type) == (_TASK, _DATASET)


def _metrics(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(metric for row in results.values() for metric in row))


def _cell(value: list[float]) -> str:
    mean, low, high = value
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _check_name(name: Any, source: str) -> None:
    is_text = isinstance(name, str) and bool(name.strip()) and len(name) <= MAX_NAME
    if not is_text or any("\ud800" <= char <= "\udfff" for char in name):
        raise PublishError(
            f"{source}: names of conditions and metrics must have 1 to {MAX_NAME} characters, got {shown(name)}."
        )


_INTERVAL = list_of(number(-MAX_SCORE, MAX_SCORE), 3)
_SETTING = {
    "identities": whole(1, int(MAX_SCORE)).or_none(),
    "prompts": Rule(lambda value: isinstance(value, list | tuple), "a list").or_none(),
}
