"""The tables of a page about speed, written from results: what stands between two marks becomes a table.

    python benchmarks/table.py docs/results docs/speed.md

``<!-- speed: speed-512.json -->`` begins a table, ``<!-- /table -->`` ends it; ``flops``, ``launches``,
``fewsteps``, ``storage``, ``vram``, ``ranks``, ``training`` and ``hours`` are the other kinds.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_PLACE = re.compile(
    r"(<!-- (speed|flops|launches|fewsteps|storage|vram|ranks|training|hours): (\S+) -->\n).*?(<!-- /table -->)",
    re.DOTALL,
)
_STEPS = (1, 4, 8)  # without guidance
_GUIDED_STEPS = 30
_CARDS, _RESERVE = (8, 12, 16, 24), 1  # GiB, and what is left on a card for everything that is not counted


def fill(page: str, results: Path) -> str:
    """The page with its tables written anew."""

    def table(place: re.Match[str]) -> str:
        found = json.loads((results / place[3]).read_text())
        return place[1] + "\n".join(_TABLES[place[2]](found)) + "\n" + place[4]

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


def launches_table(rows: list[Mapping[str, Any]]) -> list[str]:
    """Operations in each type: a row for every contestant."""
    types = list(dict.fromkeys(row["dtype"] for row in rows))
    heads = [f"{dtype.removeprefix('torch.')}: a step | added per layer" for dtype in types]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + 2 * len(types)) + "|"]
    for same in zip(*[[row for row in rows if row["dtype"] == dtype] for dtype in types], strict=True):
        first = same[0]
        name = first["contestant"]
        if first["subjects"]:
            scale = f", scale {first['scale']:g}" if first["contestant"] != "IP-Adapter" else ""
            name += f"{scale}, {first['subjects']} {'subjects' if first['subjects'] > 1 else 'subject'}"
        cells = [f"{row['step']} | {row['layer']:g}" if row["subjects"] else f"{row['step']} | " for row in same]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def fewsteps_table(rows: list[Mapping[str, Any]]) -> list[str]:
    """The set-up of a subject beside calls of few and of many steps: a row for every resolution and length."""
    heads = [f"{steps} step{'s' * (steps > 1)}" for steps in _STEPS]
    lines = [
        "| Picture | Tokens | Tower + Q-Former + projections | A step | Set-up over "
        f"{' | over '.join(heads)} | over {_GUIDED_STEPS} steps with guidance |",
        "|---" * (5 + len(_STEPS)) + "|",
    ]
    for row in rows:
        parts = [row["tower"], row["qformer"], row["projections"]]
        calls = [steps * row["step"] for steps in _STEPS] + [_GUIDED_STEPS * row["guided_step"]]
        cells = [f"{row['size']}²", row["tokens"], " + ".join(f"{part:.3f}" for part in parts), f"{row['step']:.3f}"]
        cells += [_percent(sum(parts) / call) for call in calls]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def storage_table(results: Mapping[str, Any]) -> list[str]:
    """Errors of 8 bits: a row for every adapter and storage."""
    lines = [
        "| Adapter | Storage | Error of v\\*, mean | largest | Change of a picture, of 255 | Identity |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        errors = ["", "", ""]
        if "mean_error" in row:
            errors = [_percent(row["mean_error"]), _percent(row["largest_error"]), f"{row['mean_change']:.2f}"]
        lines.append(f"| {' | '.join([row['kind'], row['storage'], *errors, format(row['identity'], '.3f')])} |")
    return lines


def vram_table(results: Mapping[str, Any]) -> list[str]:
    """Memory on the GPU in GiB and the smallest card: a row for every number of tokens, subjects and storage."""
    lines = [
        "| Subjects | Storage | Keys and values | Everything on the GPU | with a VAE in float16 | Models offloaded |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        name = f"{row['subjects']} × {row['tokens']} tokens" if row["tokens"] else "none"
        needs = [f"{need / 2**30:.1f}, {_card(need)}" for need in peaks(results, row)]
        cells = [name, row["storage"], f"{row['kept'] / 2**20:.0f} MiB" if row["tokens"] else "", *needs]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def ranks_table(rows: list[Mapping[str, Any]]) -> list[str]:
    """Sizes in float16: a row for every rank."""
    lines = ["| Rank | Projections | in float16 | Whole file in float16 |", "|---|---|---|---|"]
    for row in rows:
        projections, whole = row["projections"], row["projections"] + row["encoder"]
        sizes = [f"{2 * count / 1e6:.1f} MB" for count in (projections, whole)]
        lines.append(f"| {' | '.join([str(row['rank'] or 'dense'), f'{projections / 1e6:.2f} M', *sizes])} |")
    return lines


def training_table(results: Mapping[str, Any]) -> list[str]:
    """GB on each GPU: a row for every resolution, batch and way to keep activations."""
    trained, frozen = results["trained"], results["frozen"]
    lines = [
        f"Frozen models {frozen / 1e9:.2f} GB, adapter {trained / 1e9:.2f} GB, optimiser {2 * trained / 1e9:.2f} GB, "
        f"average of the weights {trained / 1e9:.2f} GB.",
        "",
        "| Picture | Batch | Gradient checkpointing | A step | In all |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        sizes = [f"{size / 1e9:.1f} GB" for size in (row["step"], row["step"] + frozen + 4 * trained)]
        cells = (f"{row['size']}²", str(row["batch"]), "yes" if row["checkpointing"] else "no", *sizes)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def hours_table(results: Mapping[str, Any]) -> list[str]:
    """GPU hours of a training, estimated from operations: a row for every resolution."""
    pictures = results["pictures"] * results["epochs"]
    rate = results["peak"] * results["utilisation"]
    lines = [
        f"{results['pictures']:,} pictures, {results['epochs']} epochs, {results['tokens']:,} subject tokens; "
        f"{_percent(results['utilisation'])} of {results['peak']:g} TFLOP/s.",
        "",
        "| Picture | UNet and adapter | Tower, text encoders, VAE | In all | GPU hours |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        frozen = sum(row["frozen"].values())
        hours = pictures * (row["step"] + frozen) / rate / 3600
        counts = f"{row['step']:.1f} TFLOP | {frozen:.1f} TFLOP | {row['step'] + frozen:.1f} TFLOP"
        lines.append(f"| {row['size']}² | {counts} | {round(hours, -1):,.0f} |")
    return lines


def peaks(results: Mapping[str, Any], row: Mapping[str, Any]) -> list[int]:
    """Bytes at the worst moment: with everything on the GPU; also with a VAE in float16; with one model at a time."""
    weights, decoding = results["weights"], results["decoding"]
    set_up = [weights["tower"], row["adapter"] + row["kept"]] if row["tokens"] else [0]
    together = sum(weights.values()) + row["adapter"] - (0 if row["tokens"] else weights["tower"])
    alone = [*set_up, weights["text_encoders"] + row["kept"], weights["unet"] + row["kept"] + row["step"]]
    return [
        together + row["kept"] + max(row["step"], decoding),
        together + row["kept"] - weights["vae"] // 2 + max(row["step"], decoding // 2),
        max(*alone, weights["vae"] + row["kept"] + decoding),
    ]


def _card(need: int) -> str:
    fitting = [card for card in _CARDS if need <= (card - _RESERVE) * 2**30]
    return f"{fitting[0]} GB" if fitting else f"more than {_CARDS[-1]} GB"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


_TABLES: Mapping[str, Callable[[Any], list[str]]] = {
    "speed": speed_table,
    "flops": flops_table,
    "launches": launches_table,
    "fewsteps": fewsteps_table,
    "storage": storage_table,
    "vram": vram_table,
    "ranks": ranks_table,
    "training": training_table,
    "hours": hours_table,
}


def _with_plain(rows: list[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every row, and the one of the plain UNet at its resolution, which comes first there."""
    plain: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        yield row, plain.setdefault(row["size"], row)


if __name__ == "__main__":
    for path in map(Path, sys.argv[2:]):
        path.write_text(fill(path.read_text(), Path(sys.argv[1])))
