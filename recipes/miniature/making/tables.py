"""The tables of numbers on pages, written from the committed results.

Run as ``python -m recipes.miniature.making.tables docs/results docs/miniature.md README.md``: what stands
between ``<!-- numbers: NAME -->`` and ``<!-- /numbers -->`` becomes the table of ``NAME.json``, and a short one with
``<!-- numbers: NAME in short -->``.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"(<!-- numbers: (\w+)( in short)? -->\n).*?(<!-- /numbers -->)", re.DOTALL)
_COSINES = ("identity", "identity of another")
_SHORT = {
    "identity": "identity, own photo",
    "identity of another": "identity, another's photo",
    "hair": "hair colour",
    "glasses": "glasses",
    "place": "place as in the prompt",
    "shirt": "shirt as in the prompt",
}
_GATES = (
    ("Recogniser reads skin", 0.9, "reads person.skin"),
    ("… hair colour", 0.9, "reads person.hair"),
    ("… hair style", 0.9, "reads person.hair_style"),
    ("… hair style of bare heads", None, "reads person.hair_style (bare heads)"),
    ("… glasses", 0.9, "reads person.glasses"),
    ("Samples follow the hair colour named", 0.75, "follows person.hair"),
    ("… the glasses", 0.75, "follows person.glasses"),
    ("… the shirt", 0.9, "follows scene.shirt"),
    ("… the place", 0.9, "follows scene.place"),
)


def fill(page: str, results: Path) -> str:
    """The page with every table written anew."""

    def table(place: re.Match[str]) -> str:
        values = json.loads((results / f"{place[2]}.json").read_text())
        lines = gates_table(values) if place[2] == "gates" else adapter_table(values, _SHORT if place[3] else None)
        return place[1] + "\n".join(lines) + "\n" + place[4]

    return _PLACE.sub(table, page)


def gates_table(values: Mapping[str, float]) -> list[str]:
    """Lines of the table of gates."""
    lines = ["| Gate | Wanted | Measured |", "|---|---|---|"]
    for title, wanted, key in _GATES:
        lines.append(f"| {title} | {f'≥ {wanted:.0%}' if wanted else ''} | {values[key]:.1%} |")
    same, other = (values[f"cosine {which} identity"] for which in ("same", "other"))
    lines.append(f"| Cosine of two pictures of one identity; of two identities | | {same:.3f}; {other:.3f} |")
    return [line.replace("%", " %") for line in lines]


def adapter_table(values: Mapping[str, Any], short: Mapping[str, str] | None = None) -> list[str]:
    """Lines of the table of one adapter: a column per condition, a row per metric, or per metric of ``short``."""
    results = values["results"]
    pictures = values["identities"] * len(values["prompts"])
    shown = short or {metric: metric.replace("_", " ") for metric in results["plain"]}
    columns = [name.replace("plain", "no adapter").replace("scale", "λ =") for name in results]
    lines = [
        f"{values['identities']} identities, {len(values['prompts'])} prompts, {pictures} pictures per column.",
        "",
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for metric, title in shown.items():
        cells = [_cell(metric, *results[name][metric], interval=not short) for name in results]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _cell(metric: str, mean: float, low: float, high: float, *, interval: bool) -> str:
    if metric in _COSINES:
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
    return f"{100 * mean:.1f} %" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


if __name__ == "__main__":
    for path in map(Path, sys.argv[2:]):
        path.write_text(fill(path.read_text(), Path(sys.argv[1])))
