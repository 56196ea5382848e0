"""``diffusers-nested generate``: your own prompt and photos, in any supported pipeline."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .flags import add_call_flags, add_model_flags
from .models import (
    WHERE,
    adapter_words,
    adapters_of,
    call_settings,
    check_offload,
    load_adapted,
    memory_in_words,
    usable_device,
)
from .pictures import enlarged, picture_files, write_pictures
from .subjects import read_images, with_word
from .values import SEED, number, whole

if TYPE_CHECKING:
    from PIL import Image

HELP = "Generate pictures of the subjects of some photos; in the bundled miniature world unless --pipeline is given."
OUTPUT = Path("result.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("prompt", help='such as "a photo of a person on the beach"')
    _add_subjects(parser)
    add_model_flags(parser)
    parser.add_argument("--negative-prompt")
    parser.add_argument("--num-images", type=whole(1), default=1, help="pictures of the prompt (default: 1)")
    add_call_flags(parser)
    parser.add_argument("--seed", type=SEED, default=0, help="of the noise (default: 0)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"file to write (default: {OUTPUT})")
    parser.add_argument("--overwrite", action="store_true", help=f"also replace files other than {OUTPUT}")


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


def run(arguments: argparse.Namespace) -> None:
    """Check what can be checked without models, load them, generate, and print the paths of the pictures."""
    files = picture_files(arguments.output, OUTPUT, arguments.num_images, arguments.overwrite)
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
    pictures = _draw(pipeline, arguments, images)
    write_pictures([enlarged(picture) for picture in pictures] if arguments.pipeline is None else pictures, files)


def _log_unknown_words(arguments: argparse.Namespace) -> None:
    from ..miniature.language import log_unknown_words

    log_unknown_words([text for text in (arguments.prompt, arguments.negative_prompt) if text])


def _draw(pipeline: Any, arguments: argparse.Namespace, images: Any) -> list["Image.Image"]:
    import torch

    with memory_in_words():
        return pipeline(
            arguments.prompt,
            negative_prompt=arguments.negative_prompt,
            num_images_per_prompt=arguments.num_images,
            generator=torch.Generator().manual_seed(arguments.seed),
            **({"nested_adapter_image": images} if images else {}),
            **call_settings(arguments),
        ).images
