"""All measured bases side by side: ``python -m recipes.miniature.words.table`` writes ``results/README.md``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GOALS = {
    "start + padding": "≥ .6",
    "person": "",
    "heads that give person ≥ .05": "≥ .5",
    "… over half": "≤ .1",
    "IoU of person, alone": "≥ .6",
    "… beside a pet": "≥ .6",
    "IoU of pet, beside a person": "≥ .6",
    "shirt": "",
    "… in colour": "≥ .95",
    "place": "≥ .95",
    "style": "≥ .95",
    "shirt, pairs": "",
    "expression": "",
}


def figures(result: dict[str, Any]) -> list[float | None]:
    """The figures of one base in the order of ``GOALS``."""
    alone, pair, read = result["alone"], result["pair"], result.get("pictures", {})
    return [
        *(alone["start"] + alone["padding"], alone["person"]),
        *(alone[f"heads that give person {name}"] for name in (".05 or more", "over half")),
        *(alone["IoU of person"], pair["IoU of person"], pair["IoU of pet"]),
        *(read.get(f"alone: {trait}") for trait in ("shirt", "shirt in colour", "place", "style")),
        read.get("pairs: shirt"),
        read.get("alone: expression"),
    ]


def write(folder: Path = RESULTS) -> str:
    """Write the table of all results in the folder, and return it."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [
        f"| | {' | '.join(GOALS)} |",
        "|---" * (len(GOALS) + 1) + "|",
        f"| wanted | {' | '.join(GOALS.values())} |",
    ]
    for result in found:
        cells = ["" if value is None else f"{value:.3f}" for value in figures(result)]
        lines.append(f"| {result['base']} | {' | '.join(cells)} |")
    text = (folder / "notes.md").read_text().replace("TABLE", "\n".join(lines))
    (folder / "README.md").write_text(text)
    return text


if __name__ == "__main__":
    write()
