"""Calls of a pipeline from the command line: its flags, its adapters and its subjects; in the miniature by default."""

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import NestedAdapterError
from .flags import add_adapter_flags
from .models import DTYPES, adapter_words, check_offload, load_pipeline, usable_device
from .subjects import read_images, with_word
from .values import SEED, number, whole

if TYPE_CHECKING:
    from PIL import Image


def add_call_flags(parser: argparse.ArgumentParser) -> None:
    """Add the prompt and the flags of a call."""
    parser.add_argument("prompt", help='such as "a photo of a person on the beach"')
    _add_subjects(parser)
    parser.add_argument("--pipeline", help="repository or folder of a pipeline (default: the miniature)")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        help="repository or folder of an adapter, or an IP-Adapter's file; may be repeated (default in the miniature: "
        "people and pets)",
    )
    add_adapter_flags(parser, "subfolder", "weight_name", "image_encoder_folder", "subject_token", "mechanism")
    parser.add_argument("--negative-prompt")
    parser.add_argument("--num-inference-steps", type=whole(1), help="denoising steps")
    parser.add_argument("--guidance-scale", type=number(0))
    parser.add_argument("--height", type=whole(8, multiple_of=8), help="in pixels, a multiple of 8")
    parser.add_argument("--width", type=whole(8, multiple_of=8), help="in pixels, a multiple of 8")
    parser.add_argument("--seed", type=SEED, default=0, help="of the noise (default: 0)")
    parser.add_argument("--device", help='such as "cuda" (default: CUDA if there is one)')
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of the pipeline (default: float16; on the CPU and in the miniature, float32)"
    )
    parser.add_argument("--offload", action="store_true", help="keep only the model in use on the GPU")


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
    adapters = _adapters(arguments)
    images = read_images(arguments.image, arguments.word)
    where = {name: getattr(arguments, name) for name in ("subfolder", "weight_name", "subject_token")}
    images = with_word(images, arguments.prompt, adapter_words(adapters, **where))
    if arguments.pipeline is None:
        _log_unknown_words(arguments)
    pipeline = _pipeline(arguments, device)
    others = {name: getattr(arguments, name) for name in ("image_encoder_folder", "mechanism")}
    pipeline.load_nested_adapter(adapters, **where, **others)
    pipeline.set_nested_adapter_scale(arguments.scale)
    if arguments.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline, images


def _log_unknown_words(arguments: argparse.Namespace) -> None:
    from ..miniature.language import log_unknown_words

    log_unknown_words([text for text in (arguments.prompt, arguments.negative_prompt) if text])


def _adapters(arguments: argparse.Namespace) -> list[str]:
    """Repositories and folders of the adapters; in the miniature, also the names of the bundled ones."""
    from ..miniature import ADAPTERS, path

    if arguments.pipeline is None:
        bundled = {name: str(path(name)) for name in ADAPTERS}
        return [bundled.get(name, name) for name in arguments.adapter or ADAPTERS]
    if not arguments.adapter:
        raise NestedAdapterError("--pipeline needs an adapter: --adapter REPOSITORY_OR_FOLDER.")
    return arguments.adapter


def _pipeline(arguments: argparse.Namespace, device: str) -> Any:
    from ..miniature import path

    if arguments.pipeline is None:
        return load_pipeline(str(path()), arguments.dtype or "float32", add_watermarker=False)
    return load_pipeline(arguments.pipeline, arguments.dtype or ("float32" if device == "cpu" else "float16"))


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

    names = ("num_inference_steps", "guidance_scale", "negative_prompt", "height", "width")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.pipeline is None:
        given = {"num_inference_steps": 20, "guidance_scale": 4.0, **given}
    try:
        return pipeline(
            arguments.prompt,
            num_images_per_prompt=count,
            generator=torch.Generator().manual_seed(arguments.seed),
            **({"nested_adapter_image": images} if images else {}),
            **given,
        ).images
    except torch.OutOfMemoryError as error:
        raise MemoryError("The GPU has too little memory. Try --offload, or a smaller --height and --width.") from error
