"""``diffusers-nested evaluate``: contestants compared over subjects, prompts, seeds and scales."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

HELP = "Compare adapters and other methods over subjects, prompts, seeds and scales, as a TOML file describes it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("settings", type=Path, metavar="SETTINGS.toml", help="see the page on evaluation")
    parser.add_argument("--output", help="folder for the results, in place of the file's")
    parser.add_argument("--pipeline", help='repository or folder of an SDXL pipeline, or "miniature"')
    parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument("--scales", type=float, nargs="+", help="strengths of contestants that name none themselves")
    parser.add_argument("--batch-size", type=int, help="pictures per call")
    parser.add_argument("--num-inference-steps", type=int)
    parser.add_argument("--device", help='such as "cuda" (default: CUDA if there is one)')


def run(arguments: argparse.Namespace) -> None:
    """Compare, and say where the results are."""
    from ..evaluation import evaluate, read_settings
    from ..miniature import evaluation  # noqa: F401 makes the miniature known

    sys.path.insert(0, str(Path.cwd()))  # functions named in the settings may be in a file here
    names = ("output", "pipeline", "seeds", "scales", "batch_size", "device")
    changes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    settings = read_settings(arguments.settings, **changes)
    if arguments.num_inference_steps is not None:
        settings = replace(settings, call={**settings.call, "num_inference_steps": arguments.num_inference_steps})
    evaluate(settings)
