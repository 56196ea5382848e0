"""All measured bases side by side: ``python -m recipes.miniature.words.table`` writes ``results/README.md``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GOALS = {
    "start + padding, person alone": "≥ .6",
    "… the end of the sentence": "",
    "… words": "",
    "… person": "",
    "heads that give person .05 or more": "≥ .5",
    "heads that give person over half": "≤ .1",
    "IoU of person, alone": "≥ .6",
    "IoU of person, beside a pet": "≥ .6",
    "IoU of pet, beside a person": "≥ .6",
    "shirt, one subject": "≥ .95",
    "place, one subject": "≥ .95",
    "style, one subject": "≥ .95",
    "shirt, pairs": "",
    "place, pairs": "",
    "style, pairs": "",
}


def rows(result: dict[str, Any]) -> list[float | None]:
    """The figures of one base in the order of ``GOALS``."""
    alone, pair, read = result["alone"], result["pair"], result.get("pictures", {})
    return [
        alone["start"] + alone["padding"],
        *(alone[name] for name in ("end", "words", "person")),
        *(alone[f"heads that give person {name}"] for name in (".05 or more", "over half")),
        *(alone["IoU of person"], pair["IoU of person"], pair["IoU of pet"]),
        *(read.get(f"{kind}: {trait}") for kind in ("alone", "pairs") for trait in ("shirt", "place", "style")),
    ]


def write(folder: Path = RESULTS) -> str:
    """Write the table of all results in the folder, and return it."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    columns = [rows(result) for result in found if "alone" in result]
    lines = [
        "| | wanted | " + " | ".join(result["base"] for result in found if "alone" in result) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for i, (name, goal) in enumerate(GOALS.items()):
        cells = ["" if column[i] is None else f"{column[i]:.3f}" for column in columns]
        lines.append(f"| {name} | {goal} | " + " | ".join(cells) + " |")
    text = (folder / "notes.md").read_text().replace("TABLE", "\n".join(lines))
    (folder / "README.md").write_text(text)
    return text


if __name__ == "__main__":
    write()
