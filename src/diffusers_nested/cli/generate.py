"""``diffusers-nested generate``: one's own prompt and images, in any SDXL pipeline."""

import argparse
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..adapter import NestedAdapter
from ..encoder import to_pil
from ..errors import NestedAdapterError, SubjectError
from ..photos import open_photo

HELP = "Generate pictures of the subjects of some photos; in the bundled miniature world unless --pipeline is given."
ZOOM = 8  # the miniature's pictures are 32 pixels wide
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("prompt", help='such as "a photo of a person on the beach"')
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="[WORD=]FILE",
        help="a photo, with the word of the prompt that it stands for; several photos of a word are one subject. "
        "Names of bundled examples work as files",
    )
    parser.add_argument("--pipeline", help="repository or folder of an SDXL pipeline (default: the miniature)")
    parser.add_argument(
        "--adapter", action="append", default=[], help="repository or folder of an adapter; may be repeated"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="0 is off, 1 the paper's layer, above: its λ")
    parser.add_argument("--negative-prompt")
    parser.add_argument("--num-images", type=int, default=1)
    parser.add_argument("--num-inference-steps", type=int, default=None)
    parser.add_argument("--guidance-scale", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help='such as "cuda" (default: CUDA if there is one)')
    parser.add_argument("--output", type=Path, default=Path("result.png"), help="file to write (default: result.png)")


def run(arguments: argparse.Namespace) -> None:
    """Load, generate, and say where the pictures are."""
    images = read_images(arguments.image)
    pipeline = _pipeline(arguments)
    pipeline.load_nested_adapter(_adapters(arguments))
    images = _with_word(images, arguments.prompt, pipeline.nested_adapters)
    pipeline.set_nested_adapter_scale(arguments.scale)
    settings = {
        "num_inference_steps": arguments.num_inference_steps,
        "guidance_scale": arguments.guidance_scale,
        "negative_prompt": arguments.negative_prompt,
    }
    if arguments.pipeline is None:
        settings = {"num_inference_steps": 20, "guidance_scale": 4.0, **_given(settings)}
    pictures = pipeline(
        arguments.prompt,
        num_images_per_prompt=arguments.num_images,
        generator=torch.Generator().manual_seed(arguments.seed),
        **({"nested_adapter_image": images} if images else {}),
        **_given(settings),
    ).images
    _save(pictures, arguments.output, ZOOM if arguments.pipeline is None else 1)


def read_images(entries: list[str]) -> Any:
    """``["person=a.png", "person=b.png", "pet=c.png"]`` as the pipelines take it: word -> images.

    Raises:
        SubjectError: A file cannot be read as a picture, or only some have a word.
    """
    words: dict[str, list[Image.Image]] = {}
    for entry in entries:
        word, _, file = entry.rpartition("=")
        words.setdefault(word, []).append(_open(file))
    if "" in words and len(words) > 1:
        raise SubjectError(f"Of the images {entries}, some have a word and some have none. Write WORD=FILE for each.")
    return words.get("", words)


def _with_word(images: Any, prompt: str, adapters: Mapping[str, NestedAdapter]) -> Any:
    """Images without a word get the one word of a loaded adapter that the prompt holds."""
    words = [adapter.config["subject_token"] for adapter in adapters.values()]
    held = [word for word in words if re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE)]
    return {held[0]: images} if isinstance(images, list) and len(held) == 1 else images


def _open(file: str) -> Image.Image:
    from ..miniature import example, examples

    if not Path(file).exists() and file in examples():
        return example(file)
    try:
        return to_pil(open_photo(file))
    except SubjectError as error:
        raise SubjectError(f"{error} Names of bundled examples work, too: {', '.join(examples())}.") from error


def _pipeline(arguments: argparse.Namespace) -> Any:
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.pipeline is None:
        from ..miniature import load_pipeline

        pipeline = load_pipeline()
        pipeline.set_progress_bar_config(disable=False)
        return pipeline.to(device)
    from diffusers import AutoPipelineForText2Image

    dtype = torch.float32 if device == "cpu" else torch.float16
    pipeline = AutoPipelineForText2Image.from_pretrained(arguments.pipeline).to(device, dtype)
    if not hasattr(pipeline, "load_nested_adapter"):
        raise NestedAdapterError(
            f"{arguments.pipeline} is a {type(pipeline).__name__}. Nested adapters are for SDXL pipelines."
        )
    return pipeline


def _adapters(arguments: argparse.Namespace) -> list[str]:
    if arguments.adapter:
        return arguments.adapter
    if arguments.pipeline is not None:
        raise NestedAdapterError("With --pipeline, name an adapter for it: --adapter REPOSITORY_OR_FOLDER.")
    from ..miniature import ADAPTERS, path

    return [str(path(name)) for name in ADAPTERS]


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _save(pictures: list[Image.Image], output: Path, zoom: int) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        file = output if i == 0 else output.with_stem(f"{output.stem}-{i + 1}")
        size = (picture.width * zoom, picture.height * zoom)
        picture.resize(size, Image.Resampling.NEAREST).save(file)
        logger.info("wrote %s", file.resolve())
