"""The tables of a page about speed, written from results: what stands between two marks becomes a table.

    python benchmarks/table.py docs/results docs/speed.md

``<!-- speed: speed-512.json -->`` and ``<!-- flops: flops.json -->`` begin a table, ``<!-- /table -->`` ends it.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"(<!-- (speed|flops): (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def fill(page: str, results: Path) -> str:
    """The page with its tables written anew."""

    def table(place: re.Match[str]) -> str:
        found = json.loads((results / place[3]).read_text())
        lines = speed_table(found) if place[2] == "speed" else flops_table(found)
        return place[1] + "\n".join(lines) + "\n" + place[4]

    return _PLACE.sub(table, page)


def speed_table(results: Mapping[str, Any]) -> list[str]:
    """Time and memory: a row for every contestant and resolution."""
    machine, dtype = results["machine"], results["machine"]["dtype"].removeprefix("torch.")
    lines = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, {dtype}.",
        "",
        "| Picture | | A step | in units of plain | Peak memory over plain | Projecting, once |",
        "|---|---|---|---|---|---|",
    ]
    for row, plain in _with_plain(results["rows"]):
        more = "" if row is plain else f"{row['peak_mib'] - plain['peak_mib']:+d} MiB"
        once = f"{row['preparation_seconds']:.2f} s" if row["preparation_seconds"] else ""
        cells = (f"{row['size']}²", row["contestant"], f"{row['seconds']:.2f} s", f"{row['ratio']:.3f}", more, once)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def flops_table(rows: list[Mapping[str, Any]]) -> list[str]:
    """Operations: a row for every contestant and resolution."""
    lines = ["| Picture | | TFLOP a step | over plain | in units of plain |", "|---|---|---|---|---|"]
    for row, plain in _with_plain(rows):
        name = row["contestant"] + (f", {row['tokens']} tokens" if row["tokens"] else "")
        more = "" if row is plain else f"+{row['tflop'] - plain['tflop']:.3f}"
        ratio = f"{row['tflop'] / plain['tflop']:.3f}"
        lines.append(f"| {row['size']}² | {name} | {row['tflop']:.3f} | {more} | {ratio} |")
    return lines


def _with_plain(rows: list[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every row, and the one of the plain UNet at its resolution, which comes first there."""
    plain: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        yield row, plain.setdefault(row["size"], row)


if __name__ == "__main__":
    for path in map(Path, sys.argv[2:]):
        path.write_text(fill(path.read_text(), Path(sys.argv[1])))
