"""Tables for the miniature's page, from what ``measure``, ``gates`` and ``others`` of this folder wrote.

python -m recipes.miniature.words.tables words results/first.json RUN_FOLDER/words.json
python -m recipes.miniature.words.tables gates RUN_FOLDER/gates.json
python -m recipes.miniature.words.tables others RUN_FOLDER/others.json
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bundled import tables

_FOLLOWS = (
    ("Samples follow the style named", 0.9, "follows scene.style"),
    ("… the place", 0.9, "follows scene.place"),
    ("… the shirt", 0.9, "follows scene.shirt"),
    ("… the hat", 0.9, "follows scene.hat"),
    ("… the expression", None, "follows scene.expression"),
    ("… the hair colour", 0.75, "follows person.hair"),
    ("… the glasses", 0.75, "follows person.glasses"),
    ("… the eye colour", 0.5, "follows person.eyes"),
)
_WORDS = (  # title, what is known of Stable Diffusion, part of the results, and keys whose values are added up
    ("attention to the start token and padding", "0.9 to 0.99 in most heads", "alone", ("start", "padding")),
    ('attention to "person"', "", "alone", ("person",)),
    ("heads that give it at least 0.05 somewhere", "", "alone", ("heads that give person .05 or more",)),
    ("heads that give it over half somewhere", "", "alone", ("heads that give person over half",)),
    ("IoU of its map with the person", "about 0.6", "alone", ("IoU of person",)),
    ("… beside a pet", "", "pair", ("IoU of person",)),
    ('IoU of the map of "pet" beside a person', "", "pair", ("IoU of pet",)),
    ("style as named, in held-out wordings", "", "pictures", ("alone: style",)),
    ("… place", "", "pictures", ("alone: place",)),
    ("… shirt", "", "pictures", ("alone: shirt",)),
    ("… hat", "", "pictures", ("alone: hat",)),
    ("… expression", "", "pictures", ("alone: expression",)),
)


def gates_table(values: Mapping[str, float]) -> list[str]:
    """Lines of the table of gates."""
    return tables.gates_table(values, _FOLLOWS)


def words_table(bases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of the table of how words act: a row per figure, a column per base."""
    names = [base["base"] for base in bases]
    lines = [f"| | Stable Diffusion | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for title, known, part, keys in _WORDS:
        cells = [f"{sum(base[part][key] for key in keys):.3f}" for base in bases]
        lines.append(f"| {title} | {known} | {' | '.join(cells)} |")
    return lines


def others_table(values: Mapping[str, Any]) -> list[str]:
    """Lines of the table of roles with another word and of two people: a row per case, a column per figure."""
    columns = list(dict.fromkeys(name for row in values["rows"] for name in row["scores"]))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in values["rows"]:
        cells = [f"{row['scores'][name]:.3f}" if name in row["scores"] else "" for name in columns]
        lines.append(f"| {row['case']} | {' | '.join(cells)} |")
    return lines


def main(name: str, files: Sequence[str]) -> None:
    """Write a table to stdout."""
    found = [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]
    lines = words_table(found) if name == "words" else {"gates": gates_table, "others": others_table}[name](found[0])
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
