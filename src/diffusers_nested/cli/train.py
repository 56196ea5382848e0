"""``diffusers-nested train``: a new adapter from a folder of triplets; flags as in diffusers' training scripts."""

import argparse
import inspect
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NestedAdapterError
from ..training import TrainingConfig

if TYPE_CHECKING:
    from ..adapter import NestedAdapter

HELP = "Train an adapter; start it with `accelerate launch -m diffusers_nested.cli train` on GPUs."
IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"  # the package's default and its mechanisms, without torch
MECHANISMS = ("nested", "decoupled", "simple", "global_value", "multiple_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for models and data, and one for every field of ``TrainingConfig``."""
    parser.add_argument(
        "--pretrained_model_name_or_path",
        required=True,
        help="pipeline to train for; stays frozen (required)",
    )
    parser.add_argument(
        "--image_encoder_name_or_path",
        default=IMAGE_ENCODER,
        help="CLIP vision tower, user/repo/sub/folder or a folder (default: %(default)s)",
    )
    parser.add_argument(
        "--pretrained_adapter_name_or_path",
        help="adapter to start from, for example of a run at a lower resolution; same word and sizes (default: none)",
    )
    parser.add_argument("--train_data_dir", required=True, type=Path, help="folder with a metadata.jsonl (required)")
    parser.add_argument(
        "--subject_token",
        default="person",
        help="word of the captions that the subject replaces (default: %(default)s)",
    )
    parser.add_argument("--num_queries", type=int, default=256, help="subject tokens per image (default: %(default)s)")
    parser.add_argument(
        "--mechanism",
        default="nested",
        help=f"how a subject enters a layer: {', '.join(MECHANISMS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=_number_or_none,
        default=argparse.SUPPRESS,
        help="norm of a subject's value in units of the word's own, or none (default: 2, for mechanisms that have one)",
    )
    parser.add_argument(
        "--validation_images",
        nargs="*",
        default=(),
        type=Path,
        help="subjects of the validation pictures (default: none)",
    )
    hints, described = typing.get_type_hints(TrainingConfig), _descriptions()
    for field in fields(TrainingConfig):
        settings = _argument(hints[field.name], field.default)
        action = parser.add_argument(f"--{field.name}", required=field.default is MISSING, **settings)
        action.help = _help(described.get(field.name, ""), field.default)  # here, as argparse adds to that of a switch


def run(arguments: argparse.Namespace) -> None:
    """Load everything, train, and save the adapter in ``output_dir``."""
    import torch
    from diffusers import DiffusionPipeline

    from ..data import TripletFolder
    from ..mechanisms import get_mechanism
    from ..training import train_adapter
    from ..vision import load_vision_tower

    get_mechanism(arguments.mechanism)
    config = TrainingConfig(**{field.name: getattr(arguments, field.name) for field in fields(TrainingConfig)})
    dataset = TripletFolder(arguments.train_data_dir)
    pipeline = DiffusionPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    encoder = load_vision_tower(arguments.image_encoder_name_or_path)
    torch.manual_seed(config.seed)
    adapter = _adapter(arguments, pipeline.unet, encoder.feature_dim)
    train_adapter(pipeline, encoder, adapter, dataset, config, arguments.validation_images)


def _adapter(arguments: argparse.Namespace, unet: Any, feature_dim: int) -> "NestedAdapter":
    """A new adapter with the given settings, or an earlier one that matches them."""
    from ..adapter import NestedAdapter
    from ..files import is_folder

    names = ("num_queries", "subject_token", "mechanism", "alpha")
    settings = {name: value for name, value in vars(arguments).items() if name in names}
    if arguments.pretrained_adapter_name_or_path is None:
        named = arguments.image_encoder_name_or_path
        if is_folder(named):  # a relative name in a config would be the Hub's
            named = str(Path(named).resolve())
        return NestedAdapter.from_unet(unet, image_feature_dim=feature_dim, image_encoder=named, **settings)
    adapter = NestedAdapter.from_pretrained(arguments.pretrained_adapter_name_or_path, unet=unet)
    different = [
        f"{name} {adapter.config[name]!r}" for name, value in settings.items() if adapter.config[name] != value
    ]
    if different:
        raise NestedAdapterError(
            f"{arguments.pretrained_adapter_name_or_path} has {', '.join(different)}, which differs from the flags. "
            "Pass the adapter's own values."
        )
    return adapter


def _number_or_none(text: str) -> float | None:
    return None if text == "none" else float(text)


def _descriptions() -> dict[str, str]:
    """The description of each field in the docstring of ``TrainingConfig``."""
    text = inspect.getdoc(TrainingConfig) or ""
    listed = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(words.replace("``", "").split()) for name, words in entries}


def _help(description: str, default: Any) -> str:
    """A flag's help, with its default."""
    text = description.replace("%", "%%").removesuffix(".")
    if default is MISSING:
        return f"{text} (required)"
    return f"{text} (default: {'none' if default in (None, ()) else default})"


def _argument(hint: Any, default: Any) -> dict[str, Any]:
    """Keywords for argparse to read a field of this type."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType] or [hint]
    settings: dict[str, Any] = {} if default is MISSING else {"default": default}
    if kinds == [bool]:
        return {**settings, "action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is Sequence:
        return {**settings, "nargs": "*"}
    return {**settings, "type": next(kind for kind in (float, int, str) if kind in kinds)}
