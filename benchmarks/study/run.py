"""The study of mechanisms in the miniature world, from the training of its adapters to the tables of its page.

    python benchmarks/study/run.py runs/study

Trains every adapter, generates and measures all pictures, and writes docs/results/study, the plots and the tables. Cut
off at any point and started again, it goes on. ``--only`` takes some of the comparisons, with the adapters that they
need.
"""

import argparse
import logging
import os
import shutil
from pathlib import Path

import covered  # noqa: F401 makes its world known
import cut_heads  # noqa: F401 makes its world and its metric known
import heads
import unseen
from collect import collect, collect_losses
from conditions import ADAPTERS, COMPARISONS, Comparison
from cpu_time import counted
from table import fill

from diffusers_nested.evaluation import EvaluationSettings, evaluate
from diffusers_nested.miniature import evaluation  # noqa: F401 makes the miniature known
from recipes.miniature.bundled.study_adapters import train_study_adapter

ROOT = Path(__file__).parents[2]
CPU_TIME = Path("cpu_time.json")  # minutes


def main() -> None:
    """Run what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of adapters and pictures")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in COMPARISONS], help="these comparisons only")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    results, images = ROOT / "docs" / "results" / "study", ROOT / "docs" / "images"
    args.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(args.folder)  # so that the settings name the adapters in the same way everywhere
    for comparison in COMPARISONS:
        if args.only is None or comparison.name in args.only:
            for name in comparison.adapters:
                _train(name)
            with counted(CPU_TIME, f"{comparison.name} (pictures)"):
                folder = evaluate(settings_of(comparison))
            collect(folder, comparison, results, images)
    shutil.copy(CPU_TIME, results)
    collect_losses(Path("adapters"), results)
    heads.write(results / "attention.json")
    unseen.write(results / "prompts.json")
    page = ROOT / "docs" / "study.md"
    page.write_text(fill(page.read_text(), results))


def _train(name: str) -> None:
    wanted = ADAPTERS[name]
    if wanted.start is not None:
        _train(wanted.start)
    with counted(CPU_TIME, name):
        train_study_adapter(Path("adapters", name), wanted, Path(f"{wanted.name}-{wanted.examples}.cache"))


def settings_of(comparison: Comparison) -> EvaluationSettings:
    """The comparison as ``diffusers-nested evaluate`` takes it."""
    return EvaluationSettings(
        output=comparison.name,
        subjects={"source": comparison.subjects, "count": comparison.count, "photos": comparison.photos},
        prompts=comparison.prompts,
        contestants=comparison.contestants,
        metrics=comparison.metrics,
        y=comparison.identity,
        batch_size=30,
        call={"num_inference_steps": 12, "guidance_scale": 4.0},
    )


if __name__ == "__main__":
    main()
