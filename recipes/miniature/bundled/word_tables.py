"""How words act in the miniature's bases, roles with another word and two people, as tables for its page.

From what ``measure`` and ``others`` of ``recipes.miniature.words`` wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = (  # title, what is known of Stable Diffusion, the goal, part of the results, and keys that are added up
    ("attention to the start token and padding", "0.9 to 0.99 in most heads", "≥ 0.6", "alone", ("start", "padding")),
    ('attention to "person"', "", "", "alone", ("person",)),
    ("heads that give it 0.05 or more somewhere", "", "≥ 0.5", "alone", ("heads that give person .05 or more",)),
    ("heads that give it over half somewhere", "", "≤ 0.1", "alone", ("heads that give person over half",)),
    ("… beside a pet", "", "≤ 0.1", "pair", ("heads that give person over half",)),
    ('… that give "pet" over half, beside a person', "", "≤ 0.1", "pair", ("heads that give pet over half",)),
    ('IoU of the map of "person" with the person', "about 0.6", "≥ 0.6", "alone", ("IoU of person",)),
    ("… beside a pet", "", "≥ 0.6", "pair", ("IoU of person",)),
    ('IoU of the map of "pet", beside a person', "", "≥ 0.6", "pair", ("IoU of pet",)),
    ("style as named, in held-out wordings", "", "≥ 0.95", "pictures", ("alone: style",)),
    ("… place", "", "≥ 0.95", "pictures", ("alone: place",)),
    ("… shirt", "", "", "pictures", ("alone: shirt",)),
    ("… shirt, where the style has colours", "", "≥ 0.95", "pictures", ("alone: shirt in colour",)),
    ("… hat", "", "", "pictures", ("alone: hat",)),
    ("… expression", "", "", "pictures", ("alone: expression",)),
)


def words_table(bases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of the table of how words act: a row per figure, a column per base; empty where it was not measured."""
    names = [base["base"] for base in bases]
    lines = [f"| | Stable Diffusion | goal | {' | '.join(names)} |", "|---" * (len(names) + 3) + "|"]
    for title, known, goal, part, keys in _WORDS:
        found = [[base[part][key] for key in keys if key in base[part]] for base in bases]
        cells = [f"{sum(values):.3f}" if values else "" for values in found]
        lines.append(f"| {title} | {known} | {goal} | {' | '.join(cells)} |")
    return lines


def others_table(values: Mapping[str, Any]) -> list[str]:
    """Lines of the table of roles with another word and of two people: a row per case, a column per figure."""
    columns = list(dict.fromkeys(name for row in values["rows"] for name in row["scores"]))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in values["rows"]:
        cells = [f"{row['scores'][name]:.3f}" if name in row["scores"] else "" for name in columns]
        lines.append(f"| {row['case']} | {' | '.join(cells)} |")
    return lines
