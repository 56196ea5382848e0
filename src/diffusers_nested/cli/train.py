"""``diffusers-nested train``: a new adapter from a folder of triplets; flags as in diffusers' training scripts."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AdapterLoadError, NestedAdapterError
from ..training import TrainingConfig
from .train_memory import memory_tables
from .train_settings import add_settings
from .values import number_or_none, whole_or_none

if TYPE_CHECKING:
    from ..adapter import NestedAdapter
    from ..vision import ImageEncoder, ImageEncoders

HELP = "Train an adapter; start it with `accelerate launch -m diffusers_nested.cli train` on GPUs."
IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"  # the package's default and its mechanisms, without torch
_DEFAULTS = {"num_queries": 256, "subject_token": "person"}
MECHANISMS = ("nested", "decoupled", "simple", "global_value", "multiple_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for models and data, and one for every field of ``TrainingConfig``."""
    _add_models(parser)
    parser.add_argument(
        "--train_data_dir", required=True, type=Path, help="folder with a metadata.jsonl, or with shards (required)"
    )
    _add_adapter(parser)
    parser.add_argument(
        "--validation_images",
        nargs="*",
        default=(),
        type=Path,
        help="subjects of the validation pictures (default: none)",
    )
    parser.add_argument(
        "--dry_run",
        "--dry-run",
        action="store_true",
        help="load and check everything, count the memory that a step needs on each GPU, and stop (default: no)",
    )
    parser.add_argument(
        "--phases",
        type=Path,
        help="TOML file with a table [[phase]] of settings for each of several phases, such as 512 pixels and then "
        "1024; flags hold for all phases that do not say otherwise (default: one phase)",
    )
    add_settings(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pretrained_model_name_or_path",
        required=True,
        help="pipeline to train for; stays frozen (required)",
    )
    parser.add_argument(
        "--image_encoder_name_or_path",
        nargs="+",
        help="vision tower, user/repo/sub/folder or a folder, or several that are read together (default: that of "
        f"--start_from, else {IMAGE_ENCODER})",
    )
    parser.add_argument(
        "--image_features",
        nargs="+",
        choices=("last", "penultimate", "pooled"),
        help="features of the vision tower that the adapter reads, or of each of several; pooled is one feature for "
        "the whole picture, such as a recogniser's embedding (default: that of --start_from, else last)",
    )
    parser.add_argument(
        "--pretrained_adapter_name_or_path",
        help="adapter to train on, for example of a run at a lower resolution; same word, mechanism and sizes as the "
        "flags say (default: none)",
    )
    parser.add_argument(
        "--start_from",
        help="adapter to take a copy of encoder, keys and values from for a new one, which may have another word and "
        "mechanism: a folder, a repository, or an IP-Adapter's file, also as user/repo/sub/file.safetensors "
        "(default: none)",
    )


def _add_adapter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subject_token",
        default=argparse.SUPPRESS,
        help="word of the captions that the subject replaces (default: that of --start_from, else "
        f"{_DEFAULTS['subject_token']})",
    )
    parser.add_argument(
        "--num_queries",
        type=int,
        default=argparse.SUPPRESS,
        help=f"subject tokens per image (default: that of --start_from, else {_DEFAULTS['num_queries']})",
    )
    parser.add_argument(
        "--mechanism",
        default="nested",
        help=f"how a subject enters a layer: {', '.join(MECHANISMS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=number_or_none,
        default=argparse.SUPPRESS,
        help="norm of a subject's value in units of the word's own, or none (default: 2, for mechanisms that have one)",
    )
    parser.add_argument(
        "--projection_rank",
        type=whole_or_none,
        default=argparse.SUPPRESS,
        help="train only this rank of what keys and values add to the UNet's own, for a small file, or none for dense "
        "keys and values (default: that of --start_from, else none)",
    )
    parser.add_argument(
        "--image_preparation",
        choices=("aligned_face",),
        default=argparse.SUPPRESS,
        help="what was done with the input images, kept in the adapter's configuration: aligned_face for those of "
        "`prepare faces` (default: that of --start_from, else nothing)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Load everything, train, and save the adapter in ``output_dir``."""
    configs = _configs(arguments)  # before anything takes its time

    import torch
    from diffusers import DiffusionPipeline

    from ..data import open_training_set
    from ..mechanisms import get_mechanism
    from ..training import train_adapter, train_in_phases
    from ..training.optimizer import check_optimizer
    from ..training.phases import check_phases

    get_mechanism(arguments.mechanism)
    if arguments.start_from is not None and arguments.pretrained_adapter_name_or_path is not None:
        raise NestedAdapterError(
            "--start_from begins a new adapter, --pretrained_adapter_name_or_path trains an earlier one on. Give one "
            "of them."
        )
    if arguments.phases is not None:
        check_phases(configs)
    for config in () if arguments.dry_run else configs:
        check_optimizer(config)
    dataset = open_training_set(arguments.train_data_dir)
    pipeline = DiffusionPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    start = _start(arguments.start_from, pipeline.unet)
    encoder, named = _image_encoder(arguments.image_encoder_name_or_path, start)
    torch.manual_seed(configs[0].seed)
    adapter = _adapter(arguments, pipeline.unet, start, encoder, named)
    given = (pipeline, encoder, adapter, dataset)
    if arguments.dry_run:
        sys.stdout.write(memory_tables(*given, configs, arguments.validation_images, arguments.phases is not None))
    elif arguments.phases is None:
        train_adapter(*given, configs[0], arguments.validation_images)
    else:
        train_in_phases(*given, configs, arguments.validation_images)


def _configs(arguments: argparse.Namespace) -> list[TrainingConfig]:
    """The settings of each phase."""
    from ..training import read_phases

    settings = {field.name: getattr(arguments, field.name) for field in fields(TrainingConfig)}
    return [TrainingConfig(**settings)] if arguments.phases is None else read_phases(arguments.phases, **settings)


def _start(name: str | None, unet: Any) -> "NestedAdapter | None":
    """The adapter to start from."""
    from ..adapter import NestedAdapter
    from ..adapter.locate import named_source

    return None if name is None else NestedAdapter.from_any_source(*named_source(name), unet=unet)


def _image_encoder(
    names: Sequence[str] | None, start: "NestedAdapter | None"
) -> tuple["ImageEncoder | ImageEncoders", list[str]]:
    """The image encoder of these names, or the one of the adapter to start from; and its names for a config."""
    from ..files import is_folder
    from ..vision import find_image_encoders, load_image_encoder, load_vision_tower, together

    if names is None and start is not None:
        try:
            towers = find_image_encoders(
                start.config, start.origin, features=start.image_features, is_ip_adapter=start.is_ip_adapter
            )
        except AdapterLoadError as error:
            raise AdapterLoadError(f"{error} Here it is --image_encoder_name_or_path.") from error
        named = [tower.name if tower.source.is_folder else tower.place for tower in towers]
        return together([load_image_encoder(tower) for tower in towers]), named
    names = [IMAGE_ENCODER] if names is None else names
    encoder = load_vision_tower(names)
    if start is not None:
        _check_start(start, encoder, names)
    # a relative name in a config would be the Hub's
    return encoder, [str(Path(name).resolve()) if is_folder(name) else name for name in names]


def _check_start(start: "NestedAdapter", encoder: "ImageEncoder | ImageEncoders", names: Sequence[str]) -> None:
    from ..vision import check_encoder

    try:
        check_encoder(start.config, start.image_features, encoder)
    except NestedAdapterError as error:
        raise NestedAdapterError(
            f"--image_encoder_name_or_path {' '.join(names)} does not fit the adapter to start from: {error} Here, you "
            "can leave it out."
        ) from error


def _adapter(
    arguments: argparse.Namespace,
    unet: Any,
    start: "NestedAdapter | None",
    encoder: "ImageEncoder | ImageEncoders",
    image_encoder: list[str],
) -> "NestedAdapter":
    """A new adapter with the given settings, or an earlier one that matches them."""
    from ..adapter import NestedAdapter

    names = ("num_queries", "subject_token", "mechanism", "alpha", "projection_rank", "image_preparation")
    given = {name: value for name, value in vars(arguments).items() if name in names}
    wanted: Any = arguments.image_features
    wanted = wanted[0] if wanted is not None and len(wanted) == 1 else wanted
    if start is not None:
        _check_features(wanted, start, "the adapter to start from")
        return NestedAdapter.from_unet(unet, start_from=start, image_encoder=image_encoder, **given)
    settings = {**_DEFAULTS, **given}
    if arguments.pretrained_adapter_name_or_path is None:
        reads = encoder.adapter_settings(wanted or "last")
        return NestedAdapter.from_unet(unet, image_encoder=image_encoder, **reads, **settings)
    adapter = NestedAdapter.from_pretrained(arguments.pretrained_adapter_name_or_path, unet=unet)
    different = [
        f"{name} {adapter.config.get(name)!r}" for name, value in settings.items() if adapter.config.get(name) != value
    ]
    if different:
        raise NestedAdapterError(
            f"{arguments.pretrained_adapter_name_or_path} has {', '.join(different)}, which differs from the flags. "
            "Pass the adapter's own values."
        )
    _check_features(wanted, adapter, arguments.pretrained_adapter_name_or_path)
    return adapter


def _check_features(wanted: Any, adapter: "NestedAdapter", name: str) -> None:
    """Raise if other features are asked for than an adapter reads."""
    from ..vision import each_tower
    from ..vision.several import each_of

    count = len(each_tower(adapter.config))
    reads = each_of(adapter.image_features, count)
    if wanted is not None and each_of(wanted, count) != reads:
        raise NestedAdapterError(
            f"--image_features is {wanted!r}, but {name} reads {' '.join(reads)}. Leave it out, or start a new adapter."
        )
