"""The tables of the study's page, written from its results: what stands between two marks becomes a table.

    python benchmarks/study/table.py docs/results/study docs/study.md
    python benchmarks/study/table.py docs/results/ip-adapter docs/ip-adapter.md

``<!-- study: mechanisms -->`` begins the table of ``mechanisms.json``, ``<!-- /study -->`` ends it. ``training`` holds
the losses, ``cpu_time`` the minutes.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"(<!-- study: (\S+) -->\n).*?(<!-- /study -->)", re.DOTALL)
_SHOWN = {
    "text": "prompt",
    "text place": "place",
    "text shirt": "shirt",
    "text expression": "expression",
    "identity": "identity",
    "another": "another's photo",
    "traits": "traits",
    "person": "identity, person",
    "pet": "identity, pet",
    "outside": "change outside",
    "leak": "change of the pet",
    "leak traits": "its traits that change",
}


def fill(page: str, results: Path) -> str:
    """The page with its tables written anew."""

    def table(place: re.Match[str]) -> str:
        found = json.loads((results / f"{place[2]}.json").read_text())
        write = {"training": training_lines, "cpu_time": time_lines}.get(place[2], lines_of)
        return place[1] + "\n".join(write(found)) + "\n" + place[3]

    return _PLACE.sub(table, page)


def lines_of(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row per contestant and scale: means, and intervals for whole columns (not for parts of the prompt)."""
    columns = [column for column in _SHOWN if any(column in one["scores"] for one in conditions)]
    lines = [f"| | scale | {' | '.join(_SHOWN[column] for column in columns)} |", "|---" * (len(columns) + 2) + "|"]
    for one in conditions:
        name = one["contestant"].replace("_", " ")
        scale = "" if name == "plain" else f"{one['scale']:g}"
        cells = [_cell(one["scores"].get(column), interval=" " not in column) for column in columns]
        lines.append(f"| {name} | {scale} | {' | '.join(cells)} |")
    return lines


def training_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row per adapter: its losses on held-out triplets at the end of training, and what it gains."""
    lines = ["| adapter | right photo | wrong photo | no adapter | gain over none | over wrong |", "|---" * 6 + "|"]
    for row in rows:
        right, wrong, none = (row[f"loss_{which}"] for which in ("right", "wrong", "none"))
        cells = [
            row["adapter"].replace("_", " "),
            *(f"{x:.4f}" for x in (right, wrong, none, none - right, wrong - right)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def time_lines(minutes: Mapping[str, float]) -> list[str]:
    """What took how long: training, pictures by comparison, and all together."""
    pictures = {name: spent for name, spent in minutes.items() if name.endswith("(pictures)")}
    training = [spent for name, spent in minutes.items() if name not in pictures]
    rows = {f"training of {len(training)} adapters": sum(training), **pictures, "all": sum(minutes.values())}
    return ["| | minutes of one core |", "|---|---|", *(f"| {name} | {spent:.0f} |" for name, spent in rows.items())]


def _cell(score: Mapping[str, Any] | None, interval: bool) -> str:
    if score is None or score["mean"] is None:
        return ""
    return f"{score['mean']:.3f}" + (f" [{score['low']:.3f}, {score['high']:.3f}]" if interval else "")


if __name__ == "__main__":
    for path in map(Path, sys.argv[2:]):
        path.write_text(fill(path.read_text(), Path(sys.argv[1])))
