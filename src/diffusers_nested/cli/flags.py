"""Flags that several commands share: which models are meant, and how they are called."""

import argparse

from .models import DTYPES
from .values import number, whole

_HELP = {
    "subfolder": "folder of the adapter within the repository or folder",
    "weight_name": "name of the weights file; needed for an IP-Adapter's",
    "image_encoder_folder": "folder of the image encoder; for an IP-Adapter it is within --subfolder, or counts from "
    "the top if it has a slash (default: image_encoder)",
    "subject_token": "the adapter's word (default: its own; for an IP-Adapter, person)",
    "mechanism": "how the subject enters a layer (default: the adapter's own)",
    "revision": "branch, tag or commit of the repository",
    "token": "access token of the Hub (default: the one of `hf auth login`)",
}
_DEFAULTS = {"image_encoder_folder": "image_encoder"}


def add_adapter_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add these flags, named as the keywords of ``load_nested_adapter``; dashes may be written for the underscores."""
    for name in names:
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        parser.add_argument(*spellings, default=_DEFAULTS.get(name), help=_HELP[name])


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the pipeline, its adapters, and where and in which type they compute."""
    parser.add_argument("--pipeline", help="repository or folder of a pipeline (default: the miniature)")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        help="repository or folder of an adapter, or an IP-Adapter's file; may be repeated (default in the miniature: "
        "people and pets)",
    )
    add_adapter_flags(parser, "subfolder", "weight_name", "image_encoder_folder", "subject_token", "mechanism")
    parser.add_argument("--device", help='such as "cuda" (default: CUDA if there is one)')
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of the pipeline (default: float16; on the CPU and in the miniature, float32)"
    )
    parser.add_argument("--offload", action="store_true", help="keep only the model in use on the GPU")


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """Add the settings of a call that have defaults of the pipeline's own."""
    parser.add_argument("--num-inference-steps", type=whole(1), help="denoising steps")
    parser.add_argument("--guidance-scale", type=number(0))
    parser.add_argument("--height", type=whole(8, multiple_of=8), help="in pixels, a multiple of 8")
    parser.add_argument("--width", type=whole(8, multiple_of=8), help="in pixels, a multiple of 8")
