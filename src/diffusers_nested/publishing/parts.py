"""Saving what belongs to an adapter in memory into the folder that is published."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import PublishError, SubjectError
from ..images import open_photo, to_pil
from ..vision import ImageEncoder, ImageEncoders, load_vision_tower
from .scores import EVALUATION, check_evaluation


def save_parts(
    folder: Path,
    image_encoder: Any,
    evaluation: Mapping[str, Any] | None,
    sample_images: Sequence[Any],
) -> None:
    """Save the image encoder, evaluation and pictures beside an adapter; see ``Publishable.push_to_hub``.

    Raises:
        PublishError: The evaluation has another form, or an image cannot be used.
        AdapterLoadError: The image encoder cannot be loaded.
    """
    if image_encoder is not None:
        _save_encoders(image_encoder, folder)
    if evaluation is not None:
        (folder / EVALUATION).write_text(_as_json(evaluation), encoding="utf-8")
    _save_pictures(sample_images, folder / "samples")


def _as_json(evaluation: Mapping[str, Any]) -> str:
    checked = check_evaluation(evaluation, "evaluation")
    try:
        return json.dumps(checked, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise PublishError(
            f"evaluation cannot be written as JSON ({error}). Use only text, numbers, lists and dicts."
        ) from error


def _save_encoders(image_encoder: Any, folder: Path) -> None:
    """One tower or several, in memory, by name, or a list of these."""
    given = image_encoder if isinstance(image_encoder, list | tuple) else [image_encoder]
    loaded = [one if isinstance(one, ImageEncoder | ImageEncoders) else load_vision_tower(str(one)) for one in given]
    for number, part in enumerate((part for one in loaded for part in one.parts), 1):
        part.save_pretrained(folder, number)


def _save_pictures(images: Sequence[Any], folder: Path) -> None:
    for number, image in enumerate(images, 1):
        folder.mkdir(exist_ok=True)
        _as_picture(image).save(folder / f"{number:02}.png")


def _as_picture(image: Any) -> Image.Image:
    if not isinstance(image, str | Path):
        return to_pil(image)
    if not Path(image).is_file():
        raise PublishError(f"The sample image {image} is not a file. Give the path of a picture.")
    try:
        opened = open_photo(image)
    except SubjectError as error:
        raise PublishError(f"The sample image cannot be used. {error}") from error
    return opened if opened.mode in ("RGB", "RGBA", "L") else to_pil(opened)
