"""Calls of a pipeline from the command line: its flags, its adapters and its subjects; in the miniature by default."""

import argparse
from typing import TYPE_CHECKING, Any

from ..environment.devices import usable_device
from .flags import add_model_flags, add_setting_flags
from .models import (
    WHERE,
    adapter_words,
    adapters_of,
    call_settings,
    check_offload,
    load_adapted,
    memory_in_words,
)
from .subjects import read_images, with_word
from .values import SEED, number

if TYPE_CHECKING:
    from PIL import Image


def add_call_flags(parser: argparse.ArgumentParser) -> None:
    """Add the prompt and the flags of a call."""
    parser.add_argument("prompt", help='such as "a photo of a person on the beach"')
    _add_subjects(parser)
    add_model_flags(parser)
    parser.add_argument("--negative-prompt")
    add_setting_flags(parser)
    parser.add_argument("--seed", type=SEED, default=0, help="of the noise (default: 0)")


def _add_subjects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="[WORD=]FILE",
        help="a photo, with the word of the prompt that it stands for; several photos for a word are one subject. "
        "Names of bundled examples work too",
    )
    parser.add_argument("--word", help="word for photos without one (default: the adapter's word in the prompt)")
    parser.add_argument(
        "--scale", type=number(0), default=1.0, help="0 is off, 1 the paper's layer, above: its λ (default: 1)"
    )


def prepared(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Check what can be checked without models, and load them: the pipeline on its device, and the subjects.

    Raises:
        NestedAdapterError: Something given cannot be used.
    """
    device = usable_device(arguments.device)
    if arguments.offload:
        check_offload(device)
    adapters = adapters_of(arguments)
    images = read_images(arguments.image, arguments.word)
    words = adapter_words(adapters, **{name: getattr(arguments, name) for name in WHERE})
    images = with_word(images, arguments.prompt, words)
    if arguments.pipeline is None:
        _log_unknown_words(arguments)
    pipeline = load_adapted(arguments, adapters, device)
    pipeline.set_nested_adapter_scale(arguments.scale)
    return pipeline, images


def _log_unknown_words(arguments: argparse.Namespace) -> None:
    from ..miniature.language import log_unknown_words

    log_unknown_words([text for text in (arguments.prompt, arguments.negative_prompt) if text])


def draw(pipeline: Any, arguments: argparse.Namespace, images: Any, count: int = 1) -> list["Image.Image"]:
    """Call the pipeline as the flags say.

    Args:
        pipeline: Of ``prepared``.
        arguments: The flags.
        images: Of ``prepared``.
        count: Pictures of the prompt.

    Raises:
        MemoryError: The GPU has too little memory.
    """
    import torch

    with memory_in_words():
        return pipeline(
            arguments.prompt,
            negative_prompt=arguments.negative_prompt,
            num_images_per_prompt=count,
            generator=torch.Generator().manual_seed(arguments.seed),
            **({"nested_adapter_image": images} if images else {}),
            **call_settings(arguments),
        ).images
