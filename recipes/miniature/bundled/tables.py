"""The tables of numbers on pages, written from the committed results.

What stands between ``<!-- numbers: NAME -->`` and ``<!-- /numbers -->`` becomes the table of ``NAME.json``; after
``<!-- numbers: NAME in short -->``, a short one. With ``--runs``, the results of ``diffusers-nested evaluate`` in these
folders are brought in first::

    diffusers-nested evaluate recipes/miniature/bundled/people.toml
    python -m recipes.miniature.bundled.tables docs/results docs/miniature.md README.md --runs runs/people
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .word_tables import others_table, words_table

_PLACE = re.compile(r"(<!-- numbers: (\w+)( in short)? -->\n).*?(<!-- /numbers -->)", re.DOTALL)
_COSINES = ("identity", "another")
_TITLES = {"another": "identity, another's photo", "traits": "traits of the photo", "text": "all that the prompt names"}
_SHORT = {
    "identity": "identity, own photo",
    "another": "identity, another's photo",
    "traits hair": "hair as in the photo",
    "traits glasses": "glasses as in the photo",
    "text place": "place as in the prompt",
    "text shirt": "shirt as in the prompt",
    "text expression": "expression as in the prompt",
}
Gate = tuple[str, float | None, str]  # title, what is wanted, and key of the result
_READS: tuple[Gate, ...] = (
    ("Recogniser reads skin", 0.9, "reads person.skin"),
    ("… hair colour", 0.9, "reads person.hair"),
    ("… hair style", 0.9, "reads person.hair_style"),
    ("… hair style of bare heads", None, "reads person.hair_style (bare heads)"),
    ("… glasses", 0.9, "reads person.glasses"),
)
_FOLLOWS: tuple[Gate, ...] = (
    ("Samples follow the style named", 0.9, "follows scene.style"),
    ("… the place", 0.9, "follows scene.place"),
    ("… the shirt", 0.9, "follows scene.shirt"),
    ("… the hat", 0.9, "follows scene.hat"),
    ("… the expression", None, "follows scene.expression"),
    ("… the hair colour", 0.75, "follows person.hair"),
    ("… the glasses", 0.75, "follows person.glasses"),
    ("… the eye colour", 0.7, "follows person.eyes"),
)


def collect(run: Path, results: Path) -> None:
    """Write a comparison's summary and settings to ``results / "NAME.json"``."""
    settings = json.loads((run / "settings.json").read_text())
    settings["subjects"] = len(settings["subjects"])
    conditions = json.loads((run / "summary.json").read_text())["conditions"]
    values = {"settings": settings, "conditions": conditions}
    (results / f"{run.name}.json").write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def fill(page: str, results: Path) -> str:
    """The page with new tables."""

    def table(place: re.Match[str]) -> str:
        values = json.loads((results / f"{place[2]}.json").read_text())
        write = {"gates": gates_table, "words": words_table, "others": others_table}.get(place[2], adapter_table)
        lines = adapter_table(values, _SHORT) if place[3] else write(values)
        return place[1] + "\n".join(lines) + "\n" + place[4]

    return _PLACE.sub(table, page)


def gates_table(values: Mapping[str, float]) -> list[str]:
    """Lines of the table of gates: the recogniser's, and those on what samples follow."""
    lines = ["| Gate | Wanted | Measured |", "|---|---|---|"]
    for title, wanted, key in (*_READS, *_FOLLOWS):
        lines.append(f"| {title} | {f'≥ {wanted:.0%}' if wanted else ''} | {values[key]:.1%} |")
    same, other = (values[f"cosine {which} identity"] for which in ("same", "other"))
    lines.append(f"| Cosine of two pictures of one identity; of two identities | | {same:.3f}; {other:.3f} |")
    return [line.replace("%", " %") for line in lines]


def adapter_table(values: Mapping[str, Any], short: Mapping[str, str] | None = None) -> list[str]:
    """Lines of the table of one adapter: a column per condition, a row per metric, or per metric of ``short``."""
    conditions = values["conditions"]
    shown = short or {metric: _title(metric) for metric in conditions[0]["scores"]}
    columns = ["no adapter" if one["contestant"] == "plain" else f"λ = {one['scale']:g}" for one in conditions]
    lines = [
        f"{values['settings']['subjects']} identities, {len(values['settings']['prompts'])} prompts, "
        f"{conditions[0]['pictures']} pictures per column.",
        "",
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for metric, title in shown.items():
        cells = [_cell(metric, one["scores"][metric], interval=not short) for one in conditions]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _title(metric: str) -> str:
    """ "traits hair style" -> "… hair style": a part of the metric above."""
    return _TITLES.get(metric) or re.sub(r"^(traits|text) ", "… ", metric)


def _cell(metric: str, score: Mapping[str, float], *, interval: bool) -> str:
    mean, low, high = score["mean"], score["low"], score["high"]
    if metric in _COSINES:
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
    return f"{100 * mean:.1f} %" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the committed results")
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of comparisons to bring in")
    return parser.parse_args()


if __name__ == "__main__":
    given = _read_arguments()
    for run in given.runs:
        collect(run, given.results)
    for path in given.pages:
        path.write_text(fill(path.read_text(), given.results))
