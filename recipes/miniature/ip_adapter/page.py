"""What docs/ip-adapter.md shows of the comparisons: their summaries, and a sheet of pictures.

Run as ``python -m recipes.miniature.ip_adapter.page COMPARED``, the folder that the settings beside this file write to;
then ``python benchmarks/study/table.py docs/results/ip-adapter docs/ip-adapter.md`` writes the tables.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diffusers_nested.evaluation.rows import RESULTS, read_rows
from diffusers_nested.miniature.poster import Panel, poster
from diffusers_nested.miniature.prompts import wanted

ROOT = Path(__file__).parents[3]
RESULTS_FOLDER, SHEET = ROOT / "docs" / "results" / "ip-adapter", ROOT / "docs" / "images" / "ip-adapter.png"
COMPARISONS = ("people", "pets", "pairs", "leak", "start")
PANELS = {"people": "A person", "pairs": "A person and a pet, each with a photo"}
ROWS = {
    "plain": "plain pipeline",
    "decoupled": "decoupled: IP-Adapter as it is",
    "located": "located: the same weights, at the word",
    "untrained": "nested, with the same weights and without training",
    "trained": "nested, trained, at scale 2",
}
_SCALES = {"plain": 0, "trained": 2}  # of what is shown, for others 1
COLUMNS = 8


def write(compared: Path) -> None:
    """Write the summaries and the sheet."""
    RESULTS_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in COMPARISONS:
        conditions = json.loads((compared / name / "summary.json").read_text())["conditions"]
        (RESULTS_FOLDER / f"{name}.json").write_text(json.dumps(conditions, indent=1) + "\n")
    panels = [panel(compared / name, title) for name, title in PANELS.items()]
    sheet = poster(
        panels,
        "Four ways for a photo to act",
        "Held-out subjects, scale 1 if no other is given; the same noise in a column.",
    )
    sheet.save(SHEET, optimize=True)


def panel(folder: Path, title: str) -> Panel:
    """A column per subject, each in another prompt; a row of photos per word, and one per contestant."""
    rows = read_rows(folder / RESULTS)
    prompts, subjects = (list(dict.fromkeys(row[what] for row in rows)) for what in ("prompt", "subject"))
    shots = [(subject, prompts[i % len(prompts)]) for i, subject in enumerate(subjects[:COLUMNS])]
    found = {
        (row["contestant"], row["subject"], row["prompt"]): folder / row["picture"]
        for row in reversed(rows)  # so that the first seed stays
        if row["scale"] == _SCALES.get(row["contestant"], 1)
    }
    photos = zip(
        *(sorted((folder / "photos" / subject).glob("word-*-photo-1.png")) for subject, _ in shots), strict=True
    )
    lines = [("photo", _opened(paths)) for paths in photos]
    lines += [(label, _opened([found[(name, *shot)] for shot in shots])) for name, label in ROWS.items()]
    return Panel(title, [wanted(prompt, ["person"])[0]["place"] for _, prompt in shots], lines)


def _opened(paths: Sequence[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
