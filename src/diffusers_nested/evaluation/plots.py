"""Plot of the trade-off between prompt and identity: a curve per contestant, a point per scale."""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..environment.requirements import missing_extra
from ..files.write_whole import write_whole

_COLOURS = ("#3b5bdb", "#e8590c", "#2b8a3e", "#9c36b5", "#0b7285", "#a61e4d", "#5c940d", "#862e9c")
_MEANING = {
    "text": "more is closer to the prompt",
    "identity": "more is closer to the photos",
    "outside": "less is closer to the plain picture",
}
_KINDS: Mapping[str, Mapping[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}


def trade_off(conditions: Sequence[Mapping[str, Any]], x: str, y: str, path: Path) -> None:
    """Draw the plot as PNG and as SVG.

    Args:
        conditions: From ``summarise``.
        x: Column of the horizontal axis.
        y: Column of the vertical axis.
        path: Without suffix.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("Plots need", "plots") from error
    with matplotlib.rc_context({"svg.hashsalt": "diffusers-nested", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        axes = figure.add_subplot()
        curves = _curves(conditions, x, y)
        for number, (name, points) in enumerate(curves.items()):
            # more curves than colours: the next ones are dashed, with squares
            lap, place = divmod(number, len(_COLOURS))
            _draw(axes, name, points, _COLOURS[place], "--s" if lap % 2 else "-o")
        axes.set_xlabel(_label(x))
        axes.set_ylabel(_label(y))
        axes.set_title(_title(conditions, x, y), fontsize=10, loc="left")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if curves:
            axes.legend(frameon=False)
        axes.margins(0.08)
        for kind, options in _KINDS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, **options)
            write_whole(path.with_name(f"{path.name}.{kind}"), buffer.getvalue())


def _label(column: str) -> str:
    return f"{column} ({_MEANING[column]})" if column in _MEANING else column


def _curves(conditions: Sequence[Mapping[str, Any]], x: str, y: str) -> dict[str, list[tuple[float, Any, Any]]]:
    """Contestant -> (scale, horizontal score, vertical score), sorted by scale, where both were measured."""
    curves = defaultdict(list)
    for one in conditions:
        across, up = one["scores"].get(x), one["scores"].get(y)
        if across and up and across["mean"] is not None and up["mean"] is not None:
            curves[one["contestant"]].append((one["scale"], across, up))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()}


def _draw(axes: Any, name: str, points: Sequence[tuple[float, Any, Any]], colour: str, style: str) -> None:
    means = [[score["mean"] for score in column] for column in ([p[1] for p in points], [p[2] for p in points])]
    reach = [
        [[score["mean"] - score["low"] for score in column], [score["high"] - score["mean"] for score in column]]
        for column in ([p[1] for p in points], [p[2] for p in points])
    ]
    axes.errorbar(
        *means, xerr=reach[0], yerr=reach[1], fmt="none", ecolor=colour, alpha=0.35, elinewidth=1.2, capsize=2
    )
    axes.plot(*means, style, color=colour, label=name, markersize=5, linewidth=1.6)
    for scale, across, up in points:
        if scale:  # 0 is the plain pipeline
            place = (across["mean"], up["mean"])
            axes.annotate(f"{scale:g}", place, (6, 5), textcoords="offset points", fontsize=8, color=colour)


def _title(conditions: Sequence[Mapping[str, Any]], x: str, y: str) -> str:
    """Numbers of pictures in the plot and of failures."""
    subjects, pictures = (_count(one[name] for one in conditions) for name in ("subjects", "pictures"))
    scores = [(column, one["scores"][column]) for one in conditions for column in (x, y) if column in one["scores"]]
    failed = {column: sum(score["failed"] for name, score in scores if name == column) for column in (x, y)}
    parts = [f"{subjects} subjects, {pictures} pictures per point, 95 % intervals over subjects"]
    parts += [f"{column} failed on {count} pictures, which are left out" for column, count in failed.items() if count]
    return "\n".join(parts)


def _count(numbers: Iterable[int]) -> str:
    several = sorted(set(numbers))
    return " to ".join(map(str, dict.fromkeys((several[0], several[-1]))))
