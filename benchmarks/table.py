"""The table of a page about speed, written from results: what stands between two marks becomes the table.

    python benchmarks/table.py docs/results/speed.json docs/speed.md
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"(<!-- speed -->\n).*?(<!-- /speed -->)", re.DOTALL)


def fill(page: str, results: Mapping[str, Any]) -> str:
    """The page with its table written anew."""
    return _PLACE.sub(lambda place: place[1] + "\n".join(table(results)) + "\n" + place[2], page)


def table(results: Mapping[str, Any]) -> list[str]:
    """Lines of the table: a row for every contestant and resolution."""
    machine = results["machine"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"{machine['dtype'].removeprefix('torch.')}.",
        "",
        "| Picture | | Time of a step | in units of plain | Peak memory over plain | Projecting, once |",
        "|---|---|---|---|---|---|",
    ]
    plain: dict[int, Mapping[str, Any]] = {}
    for row in results["rows"]:
        size = row["size"]
        base = plain.setdefault(size, row)  # the first row of a size is the plain UNet
        more = "" if row is base else f"{row['peak_mib'] - base['peak_mib']:+d} MiB"
        once = f"{row['preparation_seconds']:.2f} s" if row["preparation_seconds"] else ""
        lines.append(
            f"| {size} × {size} | {row['contestant']} | {row['seconds']:.2f} s | {row['ratio']:.3f} | {more} | {once} |"
        )
    return lines


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text())
    for path in map(Path, sys.argv[2:]):
        path.write_text(fill(path.read_text(), found))
