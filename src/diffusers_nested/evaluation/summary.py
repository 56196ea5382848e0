"""Means of all columns per contestant and scale, with bootstrap intervals over subjects."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .bootstrap import bootstrap_mean
from .rows import Row


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Summarise rows per contestant and scale, in the order of the rows.

    Returns:
        Entries with ``contestant``, ``scale``, ``pictures``, ``subjects`` and ``scores``: per column, the ``mean`` of
        the subjects' means, its 95 % bootstrap interval ``low`` to ``high`` over subjects, and how many pictures
        were ``measured`` and how many ``failed``.
    """
    groups: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["contestant"], row["scale"]].append(row)
    return [
        {
            "contestant": contestant,
            "scale": scale,
            "pictures": len(group),
            "subjects": len({row["subject"] for row in group}),
            "scores": {column: _column(group, column) for column in _columns(group)},
        }
        for (contestant, scale), group in groups.items()
    ]


def as_table(conditions: Sequence[Mapping[str, Any]]) -> str:
    """Format a summary as a Markdown table: a row per contestant and scale, mean and interval per column.

    Args:
        conditions: From ``summarise``.
    """
    columns = list(dict.fromkeys(column for one in conditions for column in one["scores"]))
    lines = ["| contestant | scale | pictures | " + " | ".join(columns) + " |", "|---" * (len(columns) + 3) + "|"]
    for one in conditions:
        cells = [one["contestant"], f"{one['scale']:g}", str(one["pictures"])]
        cells += [_cell(one["scores"].get(column)) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    failed = f", {score['failed']} failed" if score["failed"] else ""
    if score["mean"] is None:
        return f"–{failed}"
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]{failed}"


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row["scores"]))


def _column(rows: Sequence[Row], column: str) -> dict[str, Any]:
    per_subject: dict[str, list[float]] = defaultdict(list)
    failed = 0
    for row in rows:
        value = row["scores"].get(column, ...)
        if value is None:
            failed += 1
        elif value is not ...:
            per_subject[row["subject"]].append(value)
    counts = {"measured": sum(map(len, per_subject.values())), "failed": failed}
    if not per_subject:
        return {"mean": None, "low": None, "high": None, **counts}
    interval = bootstrap_mean([[float(np.mean(values))] for values in per_subject.values()])
    return {**{name: round(value, 6) for name, value in interval._asdict().items()}, **counts}
