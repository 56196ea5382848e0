"""How well rules for m find the subjects.

    python -m recipes.miniature.located.measure OUT.json [--runs RUN_FOLDER] [--pictures 60]

On the bundled base, and on the young ones of ``../words`` in ``RUN_FOLDER``.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_nested import miniature
from diffusers_nested.injection.word_maps import resized
from diffusers_nested.mechanisms.located import MIDDLE, SMOOTHING, WATCHING, WIDTH, where
from diffusers_nested.mechanisms.located import standing_out as standing_out_by_class

from ..words.base import from_checkpoint
from ..words.measure import WORDS, Task, draw_task
from .record import Recording, noised, redrawn

YOUNG = ("again-tuned", "again-frozen")
SIDE = 16  # of the latents
WIDTHS = {"classes": WIDTH, "deviations": 0.6, "maximum": 0.2}  # over which m rises
THRESHOLDS = {
    "classes": np.arange(0.2, 0.81, 0.05),
    "deviations": np.arange(-0.5, 1.01, 0.05),
    "maximum": np.arange(0.1, 0.96, 0.05),
}
AREAS, NOISE = (0.03, 0.08, 0.2, 0.45), 0.2  # of the invented maps: parts of the picture, and of a subject's height


@dataclass(frozen=True)
class Rule:
    """What m follows from.

    Attributes:
        layers: How the paths of the layers begin.
        unit: The way between the two "classes" of values, standard "deviations" above the mean, or parts of the
            "maximum".
        of_words: Of the attention that all words get, instead of all attention.
        runs: Whether the steps before count.
        is_smooth: Whether the map is smoothed.
        competes: Whether words compete, where the prompt has two subjects.
    """

    layers: str = WATCHING
    unit: str = "classes"
    of_words: bool = False
    runs: bool = True
    is_smooth: bool = True
    competes: bool = True


RULES = {
    "located": Rule(),
    "no competition": Rule(competes=False),
    "not smoothed": Rule(is_smooth=False),
    "this step only": Rule(runs=False),
    "all layers": Rule(layers=""),
    "the last layer": Rule(layers="up_blocks.1.attentions.1"),
    "standard deviations": Rule(unit="deviations"),
    "parts of the maximum": Rule(unit="maximum", competes=False),
    "parts of the maximum, all layers": Rule(unit="maximum", layers="", competes=False),
    "share of all words": Rule(of_words=True),
    "share of all words, parts of the maximum": Rule(of_words=True, unit="maximum", competes=False),
}


def maps(recording: Recording, rule: Rule) -> Tensor:
    """What is seen until each step, (steps, words, B, SIDE, SIDE)."""
    steps = []
    for layers in recording:
        total = torch.zeros(())
        for path, read in layers.items():
            if path.startswith(rule.layers):
                square = read.float().sum(1).transpose(1, 2)  # (B, heads, S, groups) -> (B, groups, S)
                side = round(square.shape[-1] ** 0.5)
                grown = resized(square.flatten(0, 1).view(-1, 1, side, side), (SIDE, SIDE))
                total = total + grown.view(*square.shape[:2], SIDE, SIDE)
        steps.append(total.transpose(0, 1))
    seen = torch.stack(steps)
    seen = seen.cumsum(0) if rule.runs else seen
    return seen[:, :-1] / seen[:, -1:].clamp(min=1e-9) if rule.of_words else seen[:, :-1]


def standing_out(seen: Tensor, rule: Rule) -> Tensor:
    """How far maps stand out, in the rule's unit."""
    if rule.is_smooth:
        kernel = torch.tensor(SMOOTHING)
        wide = F.pad(seen.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="replicate")
        seen = F.conv2d(wide, (kernel[:, None] * kernel)[None, None]).view(seen.shape)
    if rule.unit == "maximum":
        return seen / seen.amax((-2, -1), keepdim=True)
    if rule.unit == "deviations":
        spread, mean = torch.std_mean(seen, dim=(-2, -1), keepdim=True)
        return (seen - mean) / spread
    return standing_out_by_class(seen)


def places(seen: Tensor, rule: Rule, middle: float) -> Tensor:
    """M by a rule, one half at ``middle``."""
    above = standing_out(seen, rule)
    if rule.competes and seen.shape[1] == 2:
        above = torch.minimum(above, above - above.flip(1) + middle)
    return ((above - middle) / WIDTHS[rule.unit] + 0.5).clamp(0, 1)


def scores(found: Tensor, task: Task) -> Iterator[tuple[str, dict[str, float]]]:
    """Per word, how well m (words, B, SIDE, SIDE) of one step agrees with the drawn subject."""
    kinds = [["person" if hasattr(one, "skin") else "pet" for one in scene.subjects] for scene in task.scenes]
    present = [word for word in WORDS if word in kinds[0]]
    drawn = {
        word: F.adaptive_avg_pool2d(
            torch.stack([torch.tensor(m[k.index(word)]).float() for m, k in zip(task.masks, kinds, strict=True)]), SIDE
        )
        for word in present
    }
    for word, m in zip(present, found, strict=True):
        said, truth = m > 0.5, drawn[word] > 0.5
        iou = (said & truth).sum((1, 2)) / (said | truth).sum((1, 2)).clamp(min=1)
        result = {"IoU": iou, "inside": _mean(m, drawn[word]), "outside": _mean(m, 1 - drawn[word])}
        if len(present) == 2:
            result["on the other"] = _mean(m, drawn[present[present.index(word) == 0]])
        yield word, {name: round(float(value.mean()), 3) for name, value in result.items()}


def _mean(m: Tensor, part: Tensor) -> Tensor:
    return (m * part).sum((1, 2)) / part.sum((1, 2))


def compare(recorded: dict[str, tuple[Recording, Task]], chosen_on: list[str]) -> dict[str, Any]:
    """Every rule with the middle that has the best mean IoU over some of the recordings, third and last step.

    Of every case there are the scores at the first, the third and the last step.
    """
    result: dict[str, Any] = {}
    for name, rule in RULES.items():
        seen = {case: maps(recording, rule) for case, (recording, _) in recorded.items()}
        hard = {case: standing_out(seen[case][[2, -1]], rule) for case in chosen_on}
        means = [
            np.mean(
                [
                    score["IoU"]
                    for case in chosen_on
                    for step in hard[case]
                    for _, score in scores((step > middle).float(), recorded[case][1])
                ]
            )
            for middle in THRESHOLDS[rule.unit]
        ]
        middle = MIDDLE if rule == Rule() else float(THRESHOLDS[rule.unit][int(np.argmax(means))])
        cases: dict[str, Any] = {}
        for case, (_, task) in recorded.items():
            found = places(seen[case], rule, middle)
            for step in (0, 2, -1):
                for word, score in scores(found[step], task):
                    of_case = cases.setdefault(f"{case}, {word}", {})
                    for column, value in score.items():
                        of_case.setdefault(column, []).append(value)
        result[name] = {"middle": round(middle, 2) + 0.0, "cases": cases}
    return result


def check(recording: Recording) -> None:
    """That the first rule is the package's."""
    seen = maps(recording, RULES["located"])
    words = torch.arange(seen.shape[1])[:, None].expand(seen.shape[1:3])
    torch.testing.assert_close(places(seen, RULES["located"], MIDDLE)[-1], where(seen[-1], words))


def invented(count: int = 40, side: int = 32) -> dict[str, Any]:
    """IoU of m > ½ with discs of several sizes, and m outside, where a word's map is the disc, blurred and in noise."""
    rng = torch.Generator().manual_seed(0)
    ways = torch.arange(side).float()
    result: dict[str, Any] = {}
    for area in AREAS:
        radius = side * (area / np.pi) ** 0.5
        centres = torch.rand(count, 2, generator=rng) * (side - 2 * radius) + radius
        y, x = (ways - centres[:, i : i + 1] for i in range(2))
        truth = ((y[:, :, None] ** 2 + x[:, None] ** 2) < radius**2).float()
        blurred = F.avg_pool2d(truth[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
        seen = (1 + blurred + NOISE * torch.randn(truth.shape, generator=rng)).clamp(min=0)[None, None]
        for name, middle in (("located", MIDDLE), ("standard deviations", 0.1), ("parts of the maximum", 0.6)):
            m = places(seen, RULES[name], middle)[0, 0]
            said = m > 0.5
            iou = (said & (truth > 0)).sum((1, 2)) / (said | (truth > 0)).sum((1, 2))
            outside = _mean(m, 1 - truth)
            result.setdefault(name, {})[str(area)] = [round(float(x.mean()), 2) for x in (iou, outside)]
    return result


def record(runs: Path | None, pictures: int) -> dict[str, tuple[Recording, Task]]:
    """Recordings of every base, with one subject and with two."""
    recorded: dict[str, tuple[Recording, Task]] = {}
    for base in ("bundled", *(YOUNG if runs else ())):
        pipeline: Any = miniature.load_pipeline() if base == "bundled" else from_checkpoint(runs, base)[0]
        for pairs in (False, True):
            task = draw_task(pictures, pairs)
            for how in (redrawn, noised):
                title = f"{base}, {'two subjects' if pairs else 'one subject'}, {how.__name__}"
                recorded[title] = how(pipeline, task), task
                check(recorded[title][0])
    return recorded


def main() -> None:
    """Measure on the command line and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--pictures", type=int, default=60)
    options = parser.parse_args()
    recorded = record(options.runs, options.pictures)
    # the other young base hardly reads its subjects' words, so its best thresholds would be those of noise
    chosen_on = [case for case in recorded if "redrawn" in case and not case.startswith("again-frozen")]
    write(compare(recorded, chosen_on), options.out)
    lines = ",\n".join(f" {json.dumps(rule)}: {json.dumps(found)}" for rule, found in invented().items())
    options.out.with_name("invented.json").write_text("{\n" + lines + "\n}\n")


def write(results: dict[str, Any], out: Path) -> None:
    """A line for every case."""
    rules = []
    for rule, result in results.items():
        lines = ",\n".join(f"   {json.dumps(case)}: {json.dumps(scores)}" for case, scores in result["cases"].items())
        rules.append(f' {json.dumps(rule)}: {{\n  "middle": {result["middle"]},\n  "cases": {{\n{lines}\n  }}\n }}')
    out.write_text("{\n" + ",\n".join(rules) + "\n}\n")


if __name__ == "__main__":
    main()
