"""The results of a comparison as they are committed: a summary with the seeds of an adapter pooled, and pictures."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conditions import ADAPTERS, Comparison
from PIL import Image

from diffusers_nested.evaluation.plots import trade_off
from diffusers_nested.evaluation.rows import RESULTS, read_rows
from diffusers_nested.evaluation.summary import summarise
from diffusers_nested.miniature.poster import Panel, poster

_SEED = re.compile(r"-seed\d+$")
_SHOWN = 6  # subjects on a sheet, each in another prompt


def collect(folder: Path, comparison: Comparison, results: Path, images: Path) -> None:
    """Write a comparison's summary, that of each seed if there are several, plot and sheet.

    Args:
        folder: What ``evaluate`` returned.
        comparison: What was compared.
        results: Folder of summaries.
        images: Folder of plots and sheets.
    """
    order = list(comparison.contestants)
    rows = sorted(read_rows(folder / RESULTS), key=lambda row: order.index(row["contestant"]))
    pooled = summarise([{**row, "contestant": _SEED.sub("", row["contestant"])} for row in rows])
    names = Counter(_SEED.sub("", name) for name in order)
    seeded = [row for row in rows if names[_SEED.sub("", row["contestant"])] > 1]
    results.mkdir(parents=True, exist_ok=True)
    _write(results / f"{comparison.name}.json", pooled)
    if seeded:
        _write(results / f"{comparison.name}-seeds.json", summarise(seeded))
    if comparison.is_plotted:
        trade_off(pooled, comparison.across, comparison.identity, images / f"study-{comparison.name}")
    _sheet(folder, rows, comparison).save(images / f"study-{comparison.name}-pictures.png", optimize=True)


def collect_losses(adapters: Path, results: Path) -> None:
    """Write the last paired losses of every adapter that is trained."""
    rows = []
    for name in ADAPTERS:
        log = adapters / name / "log.jsonl"
        if log.is_file():
            last = json.loads(log.read_text().splitlines()[-1])
            rows.append({"adapter": name, **{k: round(last[k], 4) for k in ("loss_right", "loss_wrong", "loss_none")}})
    _write(results / "training.json", rows)


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text(json.dumps(rows, indent=1) + "\n")


def _sheet(folder: Path, rows: Sequence[Mapping[str, Any]], comparison: Comparison) -> Image.Image:
    """A column of photos, and one for every contestant at its scale to be shown; the first seed of each."""
    chosen: dict[str, tuple[str, float]] = {}  # heading -> contestant and scale
    for row in rows:
        heading = _SEED.sub("", row["contestant"]).replace("_", " ")
        name, scale = chosen.get(heading, (row["contestant"], row["scale"]))
        shown = comparison.shown.get(_SEED.sub("", row["contestant"]), 2.0)
        if heading not in chosen or (row["contestant"] == name and abs(row["scale"] - shown) < abs(scale - shown)):
            chosen[heading] = name, row["scale"]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))[:_SHOWN]
    lines = []
    for i, subject in enumerate(subjects):
        prompt = sorted({row["prompt"] for row in rows if row["subject"] == subject})[i % len(comparison.prompts)]
        found = {
            (row["contestant"], row["scale"]): folder / row["picture"]
            for row in rows
            if (row["subject"], row["prompt"]) == (subject, prompt)
        }
        photos = sorted((folder / "photos" / subject).glob("word-*-photo-1.png"))
        pictures = [_pixels(path) for path in (*photos, *(found[one] for one in chosen.values()))]
        lines.append((prompt, pictures))
    kinds = [""] * (len(lines[0][1]) - len(chosen))
    marks = {0.0: "", 1.0: ""}  # long names need the room
    named = (heading + marks.get(scale, f" @{scale:g}") for heading, (_, scale) in chosen.items())
    headings = ["photo", *kinds[1:], *named]
    panel = Panel("", headings, lines)
    footer = "Held-out subjects; the same noise in a row; scale 1 if no other is given."
    return poster([panel], f"Study: {comparison.name}", footer)


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))
