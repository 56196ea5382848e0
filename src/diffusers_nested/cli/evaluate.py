"""``diffusers-nested evaluate``: contestants compared over subjects, prompts, seeds and scales."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

HELP = "Compare adapters and other methods over subjects, prompts, seeds and scales, as a TOML file describes it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("settings", type=Path, metavar="SETTINGS.toml", help="see the page on evaluation")
    parser.add_argument("--output", help="folder for the results; overrides the file's")
    parser.add_argument("--pipeline", help='repository or folder of a pipeline, or "miniature"')
    parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument("--scales", type=float, nargs="+", help="strengths of contestants without their own")
    parser.add_argument("--batch-size", type=int, help="pictures per call")
    parser.add_argument("--num-inference-steps", type=int)
    parser.add_argument("--device", help='such as "cuda" (default: CUDA if there is one)')


def run(arguments: argparse.Namespace) -> None:
    """Compare, print where the results are, and end with their table on stdout."""
    from ..evaluation import evaluate, read_settings
    from ..evaluation.report import SUMMARY
    from ..evaluation.shots import load_prompts
    from ..evaluation.summary import as_table
    from ..miniature import evaluation  # noqa: F401 makes the miniature known
    from ..miniature.language import log_unknown_words

    # functions named in the settings may be in a file here; it comes last, so that nothing installed is hidden by it
    sys.path.append(str(Path.cwd()))
    names = ("output", "pipeline", "seeds", "scales", "batch_size", "device")
    changes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    settings = read_settings(arguments.settings, **changes)
    if arguments.num_inference_steps is not None:
        settings = replace(settings, call={**settings.call, "num_inference_steps": arguments.num_inference_steps})
    speaks = os.environ.get("RANK", "0") == "0"  # of several processes, one
    if speaks and settings.pipeline == "miniature":
        log_unknown_words(load_prompts(settings.prompts))
    folder = evaluate(settings)
    if speaks:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        sys.stdout.write(as_table(summary["conditions"]))
